# Runs one order in one container of an HPC: payload, stage-in, the route's command, stage-out, evidence.
#
# Over there the exit codes of init containers get lost and volumes do not arrive, so one POSIX shell does it
# all (dash, busybox, bash). The daemon hands two variables over, in base64 so that nothing on the way can
# change them: DCNIOS_PAYLOAD, and DCNIOS_ORDER, lines of words with | between them, each in the escapes of
# printf's %b (see order.py). The image needs base64 or openssl, and for staging curl or GNU wget; for staging
# in alone busybox's wget will do, which takes no binary bodies. With stage_with: tool it needs the command dcnios
# instead, which does the staging by the daemon's plan.
#
# The last line tells the daemon how it ended. Where that line is missing, nothing is believed.

set -u
step=prepare work='' folder='' child='' stopped='' interrupted=''

end() { # exit code
    [ -z "$work" ] || rm -rf "$work" ${folder:+"$folder"} 2>/dev/null
    printf '\ndcnios-end key=%s attempt=%s step=%s exit=%s\n' "$DCNIOS_KEY" "$DCNIOS_ATTEMPT" "$step" "$1"
    exit "$1"
}

fail() { # words; another attempt may succeed (EX_TEMPFAIL of sysexits.h)
    printf 'dcnios %s: %s\n' "$step" "$*" >&2
    end "${stopped:-75}"
}

has() { command -v "$1" >/dev/null 2>&1; }

plain() { # word: $plain is what it stands for; the dot keeps newlines at its end
    plain=$(printf '%b.' "$1")
    plain=${plain%.}
}

decoded() {
    if has base64; then base64 -d; else openssl base64 -d -A; fi
}

signalled() { # name, number: the time limit, or somebody who cancels
    stopped=$((128 + $2)) interrupted=1
    [ -z "$child" ] || kill -s "$1" "$child" 2>/dev/null
}

await() { # command: its exit code, or the signal's if it made light of one
    "$@" </dev/null &
    child=$!
    [ -z "$stopped" ] || kill -s TERM "$child" 2>/dev/null
    interrupted='' code=0
    wait "$child" || code=$?
    while [ -n "$interrupted" ]; do
        interrupted='' again=0
        wait "$child" || again=$?
        [ "$again" -eq 127 ] || code=$again # 127: it had ended before the signal came
    done
    child=''
    [ -z "$stopped" ] || [ "$code" -ne 0 ] || code=$stopped
    return "$code"
}

# --- the order ------------------------------------------------------------------------------------------------
# Becomes files in $work: words (the command), in/ and out-1/, out-2/ … (requests: url, headers, fields, ca; of
# an outlet also prefixes and suffixes); or stage and marker, the plans of dcnios stage. What gives leave stays in files: arguments are there for all to see.

read_order() {
    place='' outlets=0
    : >"$work/words"
    while IFS='|' read -r verb word value; do
        case $verb in
        env)
            plain "$value"
            export "$word=$plain"
            ;;
        event) # only where the payload is text that a variable can hold
            EVENT=$(cat "$DCNIOS_EVENT_FILE" && printf .)
            export EVENT="${EVENT%.}"
            ;;
        input)
            plain "$word"
            export INPUT_FILE_PATH="$work/input/$plain"
            ;;
        word) printf '%s\n' "$word" >>"$work/words" ;;
        get) open_place in "$word" ;;
        post | put)
            outlets=$((outlets + 1))
            open_place "out-$outlets" "$word"
            printf '%s' "$verb" >"$place/method"
            plain "$value" # what keys begin with
            printf '%s' "$plain" >"$place/key"
            ;;
        ca)
            plain "$word"
            printf '%s' "$plain" >"$place/ca"
            ;;
        plan)
            plain "$value"
            printf '%s' "$plain" >"$work/$word"
            ;;
        left)
            plain "$word"
            mkdir -p "$work/left/output" && printf '%s\n' "$DCNIOS_KEY" >"$work/left/output/$plain"
            ;;
        header | field | prefix | suffix | marker) printf '%s\n' "$word" >>"$place/$verb" ;;
        esac || fail "cannot write to $work"
    done <"$work/order"
}

open_place() { # name, url
    place=$work/$1
    mkdir "$place" || return
    : >"$place/header" && : >"$place/field" && : >"$place/prefix" && : >"$place/suffix" || return
    plain "$2"
    printf '%s' "$plain" >"$place/url"
}

# --- requests: $place says to whom, $url where exactly ----------------------------------------------------------

SOH=$(printf '\001')

quoted() { # text, for curl's configuration
    printf '%s' "$1" | sed 's/[\\"]/\\&/g' | tr '\n' '\001' | sed "s/$SOH/\\\\n/g"
}

each() { # file of words, format
    while IFS= read -r word; do
        plain "$word"
        # shellcheck disable=SC2059 # the formats are ours
        printf "$2" "$(quoted "$plain")"
    done <"$1"
}

use_curl() { # lines of configuration
    {
        printf 'url = "%s"\n' "$(quoted "$url")"
        printf '%s\n' silent show-error fail location globoff
        printf '%s\n' 'connect-timeout = 15' 'speed-limit = 1' 'speed-time = 120'
        each "$place/header" 'header = "%s"\n'
        [ ! -f "$place/ca" ] || printf 'cacert = "%s"\n' "$place/ca"
        printf '%s\n' "$@"
    } >"$work/curl" && await curl -K "$work/curl"
}

is_gnu_wget() { wget --version >/dev/null 2>&1; }

use_wget() { # options
    if is_gnu_wget; then
        {
            each "$place/header" 'header = %s\n'
            [ ! -f "$place/ca" ] || printf 'ca_certificate = %s\n' "$place/ca"
        } >"$work/wgetrc" && printf '%s\n' "$url" >"$work/url" || return
        WGETRC=$work/wgetrc await wget -nv --tries=1 --timeout=120 -i "$work/url" "$@"
    else # busybox's: takes nothing from files, and 1.35 crashes at -T
        while IFS= read -r word; do
            plain "$word"
            set -- "$@" --header "$plain"
        done <"$place/header"
        await wget -q "$@" "$url"
    fi
}

patiently() { # command: until it succeeds, for about a minute
    for pause in 1 2 4 8 16 32 ''; do
        "$@" && return
        [ -z "$stopped" ] || fail stopped
        [ -n "$pause" ] || fail "gave up: $2"
        await sleep "$pause"
    done
}

fetch() { # target
    if has curl; then
        use_curl "output = \"$(quoted "$1")\""
    elif has wget; then
        use_wget -O "$1"
    else
        fail 'the image has neither curl nor wget'
    fi
}

send_form() { # name, file
    key=$(cat "$place/key" && printf .)
    key=${key%.}$1
    if has curl; then
        # S3 replaces ${filename} in a key by the file part's name: with that very name, a key keeps it.
        part='filename=\"${filename}\";type=application/octet-stream'
        use_curl "form-string = \"key=$(quoted "$key")\"" "$(each "$place/field" 'form-string = "%s"\n')" \
            "form = \"file=@$work/file;$part\""
    elif is_gnu_wget; then
        form "$key" >"$work/body" &&
            use_wget -O /dev/null --header "Content-Type: multipart/form-data; boundary=$boundary" \
                --post-file "$work/body"
    else
        fail 'sending files needs curl or GNU wget, and the image has neither'
    fi
}

boundary=dcnios-7d1f3c5b9a2e

form() { # key
    part='--%s\r\nContent-Disposition: form-data; name="%s"'
    printf -- "$part"'\r\n\r\n%s\r\n' "$boundary" key "$1"
    while IFS= read -r word; do
        plain "$word"
        printf -- "$part"'\r\n\r\n%s\r\n' "$boundary" "${plain%%=*}" "${plain#*=}"
    done <"$place/field"
    printf -- "$part"'; filename="${filename}"\r\n' "$boundary" file
    printf 'Content-Type: application/octet-stream\r\n\r\n'
    cat "$work/file" || return
    printf '\r\n--%s--\r\n' "$boundary"
}

encoded() { # text: every byte of it as %XX, but for slashes
    printf '%s' "$1" | od -An -v -tx1 | tr -d ' \n' | sed 's/../%&/g; s/%2f/\//g'
}

send_file() { # name, file
    url=$(cat "$place/url")$(encoded "$1")
    if has curl; then
        use_curl "upload-file = \"$work/file\"" && return
        case $1 in */*) make_folders "$1" ;; esac
        return 1
    elif is_gnu_wget; then
        use_wget -O /dev/null --method=PUT --body-file="$work/file"
    else
        fail 'sending files needs curl or GNU wget, and the image has neither'
    fi
}

make_folders() { # name: those above it, as far as they are missing
    above='' rest=$1
    while [ "$rest" != "${rest#*/}" ]; do
        above=$above${rest%%/*}/ rest=${rest#*/}
        url=$(cat "$place/url")$(encoded "$above")
        use_curl 'request = MKCOL' 'output = /dev/null' 2>/dev/null
    done
}

# --- the steps --------------------------------------------------------------------------------------------------

is_taken() { # name: whether it goes to $place
    among "$1" prefix && among "$1" suffix
}

among() { # name, prefix or suffix: whether it has one of these, or there are none
    [ -s "$place/$2" ] || return 0
    while IFS= read -r word; do
        plain "$word"
        case $2 in
        prefix) case $1 in "$plain"*) return 0 ;; esac ;;
        suffix) case $1 in *"$plain") return 0 ;; esac ;;
        esac
    done <"$place/$2"
    return 1
}

deliver() { # folder: all files below it go to $place
    for path in "$1"/* "$1"/.[!.]* "$1"/..?*; do
        if [ -d "$path" ] && [ ! -L "$path" ]; then
            deliver "$path"
        elif [ -f "$path" ]; then
            name=${path#"$TMP_OUTPUT_DIR/"}
            if is_taken "$name"; then
                ln -sf "$path" "$work/file" || fail "cannot write to $work"
                url=$(cat "$place/url")
                patiently "send_$how" "$name"
            fi
        elif [ -L "$path" ]; then
            fail "${path#"$TMP_OUTPUT_DIR/"}: a link to no file"
        fi
    done
}

use_tool() { # in or out, plan, folder
    await dcnios stage "$1" --plan "$work/$2" --work-dir "$3" || fail "dcnios stage $1 ended with exit code $?"
}

# All is done: another one is not made for want of the marker, for the last line says it, too.

no_marker() { printf 'dcnios %s: the marker could not be left\n' "$step" >&2; }

leave_marker_by_tool() {
    (
        end() { exit "$1"; }
        use_tool out marker "$work/left"
    )
}

leave_marker() {
    printf '%s\n' "$DCNIOS_KEY" >"$work/done" && ln -sf "$work/done" "$work/file" || return
    read -r word <"$place/marker"
    plain "$word"
    url=$(cat "$place/url")
    (
        end() { exit "$1"; }
        patiently "send_$how" "$plain"
    )
}

trap 'signalled TERM 15' TERM
trap 'signalled INT 2' INT
trap 'signalled HUP 1' HUP

work=$(mktemp -d "${TMPDIR:-/tmp}/dcnios.XXXXXXXX") || fail 'no room for a work folder'
mkdir "$work/input" "$work/output" || fail "cannot write to $work"
# Where it is there already it may be another job's: a root that is shared, or the image's.
if mkdir /dcnios 2>/dev/null; then folder=/dcnios; fi
DCNIOS_EVENT_FILE=${folder:-$work}/event.json
export DCNIOS_EVENT_FILE TMP_OUTPUT_DIR="$work/output"
printf '%s' "$DCNIOS_PAYLOAD" | decoded >"$DCNIOS_EVENT_FILE" || fail 'the payload cannot be written'
printf '%s' "$DCNIOS_ORDER" | decoded >"$work/order" || fail 'the order cannot be written'
unset DCNIOS_PAYLOAD DCNIOS_ORDER DCNIOS_WRAPPER
read_order

step=stage-in
if [ -f "$work/stage" ] || [ -f "$work/marker" ]; then # said before hours of work, not after them
    has dcnios || fail 'stage_with: tool needs the command dcnios, which is not on the PATH of the container'
fi
if [ -f "$work/stage" ]; then
    use_tool in stage "$work"
elif [ -d "$work/in" ]; then
    place=$work/in
    url=$(cat "$place/url")
    patiently fetch "$INPUT_FILE_PATH"
fi

step=run
set --
while IFS= read -r word; do
    plain "$word"
    set -- "$@" "$plain"
done <"$work/words"
await "$@" || end "$?"

step=stage-out
[ ! -f "$work/stage" ] || use_tool out stage "$work"
number=0
while [ "$number" -lt "$outlets" ]; do
    number=$((number + 1))
    place=$work/out-$number
    how=form
    [ "$(cat "$place/method")" = post ] || how=file
    if [ -f "$place/marker" ]; then
        leave_marker || no_marker
    else
        deliver "$TMP_OUTPUT_DIR"
    fi
done
[ ! -f "$work/marker" ] || leave_marker_by_tool || no_marker
step=done
end 0
