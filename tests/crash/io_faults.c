/* Stands between a process and its file system (LD_PRELOAD), for files below $IO_FAULTS_UNDER:
 *
 * $IO_FAULTS_RULES  a file, read at every call: lines "write|fsync|read|open ERRNO [part of a path[$]]". A call
 *                   that a rule names fails with that errno and does nothing. $ is the path's end.
 * $IO_FAULTS_LOG    every change that was made is appended here, in order: see tests/crash/power_cut.py.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#define FILES 65536
static char *names[FILES];
static pthread_mutex_t lock = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
static const char *under, *rules;
static int log_file = -1, begun;

#define REAL(type, name, ...) \
    static type (*real_##name)(__VA_ARGS__); \
    if (!real_##name) real_##name = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

static int raw_open(const char *path, int flags, mode_t mode) {
    REAL(int, open64, const char *, int, ...);
    return real_open64(path, flags, mode);
}

static ssize_t raw_write(int file, const void *data, size_t size) {
    REAL(ssize_t, write, int, const void *, size_t);
    return real_write(file, data, size);
}

static void begin(void) {
    if (begun) return;
    begun = 1;
    under = getenv("IO_FAULTS_UNDER");
    rules = getenv("IO_FAULTS_RULES");
    const char *path = getenv("IO_FAULTS_LOG");
    if (path) log_file = raw_open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static int ours(const char *path) {
    begin();
    size_t size = path ? strlen(path) : 0;
    if (!under || !path || strncmp(path, under, strlen(under))) return 0;
    return size < 4 || strcmp(path + size - 4, "-shm"); /* shared memory is no file */
}

static const char *name_of(int file) {
    return file >= 0 && file < FILES ? names[file] : NULL;
}

/* Whether the path holds the part, at its end if the part ends with a $. */
static int holds(const char *path, char *part) {
    size_t whole = strlen(path), size = strlen(part);
    if (!size || part[size - 1] != '$') return strstr(path, part) != NULL;
    return --size <= whole && !strncmp(path + whole - size, part, size);
}

/* The errno that a rule wants, or 0. */
static int wanted(const char *what, const char *path) {
    REAL(ssize_t, read, int, void *, size_t);
    if (!rules) return 0;
    int saved = errno, file = raw_open(rules, O_RDONLY | O_CLOEXEC, 0);
    errno = saved;
    if (file < 0) return 0;
    char text[4096], *line, *rest = text;
    ssize_t size = real_read(file, text, sizeof text - 1);
    close(file);
    errno = saved;
    if (size <= 0) return 0;
    text[size] = 0;
    while ((line = strsep(&rest, "\n"))) {
        char op[16], part[256] = "";
        int number;
        if (sscanf(line, "%15s %d %255s", op, &number, part) >= 2 && !strcmp(op, what) && holds(path, part))
            return number;
    }
    return 0;
}

static void say(char op, const char *path, const char *other, int64_t offset, const void *data, size_t size) {
    if (log_file < 0) return;
    uint32_t first = strlen(path), second = other ? strlen(other) : 0;
    uint64_t length = size;
    size_t whole = 1 + 4 + 4 + 8 + 8 + first + second + (data ? size : 0);
    char *record = malloc(whole), *end = record;
    *end++ = op;
    memcpy(end, &first, 4); end += 4;
    memcpy(end, &second, 4); end += 4;
    memcpy(end, &offset, 8); end += 8;
    memcpy(end, &length, 8); end += 8;
    memcpy(end, path, first); end += first;
    if (other) { memcpy(end, other, second); end += second; }
    if (data) memcpy(end, data, size);
    int saved = errno;
    if (raw_write(log_file, record, whole) != (ssize_t)whole) abort();
    errno = saved;
    free(record);
}

#define GUARD(what, path) \
    do { int number = wanted(what, path); if (number) { errno = number; return -1; } } while (0)

static int opened(const char *path, int flags, mode_t mode, int (*call)(const char *, int, mode_t)) {
    if (!ours(path)) return call(path, flags, mode);
    pthread_mutex_lock(&lock);
    struct stat status;
    int number = wanted("open", path), is_new = (flags & O_CREAT) && stat(path, &status), file = -1;
    if (number) errno = number;
    else file = call(path, flags, mode);
    if (file >= 0 && file < FILES) {
        free(names[file]);
        names[file] = strdup(path);
        if (is_new) say('C', path, NULL, 0, NULL, 0);
        else if (flags & O_TRUNC) say('T', path, NULL, 0, NULL, 0);
    }
    pthread_mutex_unlock(&lock);
    return file;
}

static mode_t mode_of(int flags, va_list list) { return flags & (O_CREAT | O_TMPFILE) ? va_arg(list, mode_t) : 0; }

int open(const char *path, int flags, ...) {
    va_list list; va_start(list, flags); mode_t mode = mode_of(flags, list); va_end(list);
    return opened(path, flags, mode, raw_open);
}

int open64(const char *path, int flags, ...) {
    va_list list; va_start(list, flags); mode_t mode = mode_of(flags, list); va_end(list);
    return opened(path, flags, mode, raw_open);
}

int close(int file) {
    REAL(int, close, int);
    pthread_mutex_lock(&lock);
    if (name_of(file)) { free(names[file]); names[file] = NULL; }
    int result = real_close(file);
    pthread_mutex_unlock(&lock);
    return result;
}

#define CHANGE(what, call, note) \
    const char *path = name_of(file); \
    if (!path) return call; \
    pthread_mutex_lock(&lock); \
    int number = wanted(what, path); \
    ssize_t result = -1; \
    if (number) errno = number; \
    else { result = call; if (result >= 0) note; } \
    pthread_mutex_unlock(&lock); \
    return result

ssize_t write(int file, const void *data, size_t size) {
    off_t offset = name_of(file) ? lseek(file, 0, SEEK_CUR) : 0;
    CHANGE("write", raw_write(file, data, size), say('W', path, NULL, offset, data, result));
}

ssize_t pwrite64(int file, const void *data, size_t size, off64_t offset) {
    REAL(ssize_t, pwrite64, int, const void *, size_t, off64_t);
    CHANGE("write", real_pwrite64(file, data, size, offset), say('W', path, NULL, offset, data, result));
}

ssize_t pwrite(int file, const void *data, size_t size, off_t offset) {
    return pwrite64(file, data, size, offset);
}

int ftruncate64(int file, off64_t size) {
    REAL(int, ftruncate64, int, off64_t);
    CHANGE("write", real_ftruncate64(file, size), say('T', path, NULL, size, NULL, 0));
}

int ftruncate(int file, off_t size) { return ftruncate64(file, size); }

/* What failed is told as well: what it should have brought to the disk may never come there any more. */
#define SYNC(name) \
    int name(int file) { \
        REAL(int, name, int); \
        const char *path = name_of(file); \
        if (!path) return real_##name(file); \
        pthread_mutex_lock(&lock); \
        int number = wanted("fsync", path), result = -1; \
        if (number) errno = number; \
        else result = real_##name(file); \
        say(result ? 'F' : 'S', path, NULL, 0, NULL, 0); \
        pthread_mutex_unlock(&lock); \
        return result; \
    }
SYNC(fsync)
SYNC(fdatasync)

ssize_t pread64(int file, void *data, size_t size, off64_t offset) {
    REAL(ssize_t, pread64, int, void *, size_t, off64_t);
    const char *path = name_of(file);
    if (path) GUARD("read", path);
    return real_pread64(file, data, size, offset);
}

ssize_t pread(int file, void *data, size_t size, off_t offset) { return pread64(file, data, size, offset); }

int rename(const char *from, const char *to) {
    REAL(int, rename, const char *, const char *);
    if (!ours(to)) return real_rename(from, to);
    pthread_mutex_lock(&lock);
    int number = wanted("write", to), result = -1;
    if (number) errno = number;
    else result = real_rename(from, to);
    if (!result) say('R', from, to, 0, NULL, 0);
    pthread_mutex_unlock(&lock);
    return result;
}

int unlink(const char *path) {
    REAL(int, unlink, const char *);
    if (!ours(path)) return real_unlink(path);
    pthread_mutex_lock(&lock);
    int number = wanted("write", path), result = -1;
    if (number) errno = number;
    else result = real_unlink(path);
    if (!result) say('U', path, NULL, 0, NULL, 0);
    pthread_mutex_unlock(&lock);
    return result;
}
