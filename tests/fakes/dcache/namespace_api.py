"""The REST interface to files: ``/api/v1/namespace`` (section 5; FileResources)."""

from __future__ import annotations

import asyncio
import sys

from aiohttp import web

from .attributes import Wanted, describe
from .calls import Call, Requests
from .namespace import Inode, Namespace, NamespaceError, NoSuchFileError, join
from .replies import ApiError, compact, json_reply
from .storage import Storage

BLOCK = 1000


class NamespaceApi:
    """Handlers of ``/api/v1/namespace/...``."""

    def __init__(self, namespace: Namespace, storage: Storage, requests: Requests) -> None:
        self._namespace = namespace
        self._storage = storage
        self._requests = requests

    async def handle(self, call: Call) -> web.StreamResponse:
        """Dispatch on the method."""
        path = call.login.resolve("/".join(call.segments))
        try:
            match call.method:
                case "GET":
                    return await self._get(call, path)
                case "POST":
                    return await self._act(call, path)
                case "DELETE":
                    self._requests.count("DELETE namespace")
                    self._permit(call, "DELETE", path)
                    self._storage.delete(self._namespace.find(path))
                    return json_reply({"status": "success"})
        except NoSuchFileError:
            raise ApiError(404, f"No such file or directory: {path}") from None
        except NamespaceError as error:
            raise ApiError(500 if call.method == "DELETE" else 400, str(error)) from None
        raise ApiError(405, "Method Not Allowed")

    async def _get(self, call: Call, path: str) -> web.StreamResponse:
        is_list = call.query.get("children", "").lower() == "true"
        self._requests.count("listing" if is_list else "stat")
        self._permit(call, "READ_METADATA", path)
        inode = self._namespace.find(path)
        wanted = Wanted.of(call.query)
        reply = describe(inode, wanted, named=False)
        if not is_list or not inode.is_dir:
            return json_reply(reply)
        first, end = _range(call.query)
        self._permit(call, "LIST", path)
        self._requests.listed[path] += 1
        children = self._storage.list(inode, first, end)
        visible = [c for c in children if call.login.permits("READ_METADATA", join(path, c.name))]
        return await _send_listing(call.request, reply, visible, wanted)

    async def _act(self, call: Call, path: str) -> web.Response:
        self._requests.count("POST namespace")
        body = await call.json()
        if not isinstance(body, dict) or not isinstance(body.get("action"), str):
            raise ApiError(400, 'JSONObject["action"] not found.')
        match body["action"]:
            case "mkdir":
                name = _text(body, "name")
                self._permit(call, "MANAGE", path)
                self._storage.mkdir(join(path, name), owner=call.login.uid)
            case "mv":
                self._move(call, path, _text(body, "destination"))
            case "pin" | "unpin" as action:
                self._permit(call, "READ_METADATA", path)
                inode = self._namespace.find(path)
                if action == "pin" and not inode.locations:
                    self._storage.stage(inode)
            case action:
                raise ApiError(400, f"No such action {action}")
        return json_reply({"status": "success"}, status=201)

    def _move(self, call: Call, path: str, destination: str) -> None:
        """Rename; a relative destination is resolved against the parent (``pathMapper.resolve``)."""
        target = (
            call.login.resolve(destination) if destination.startswith("/") else join(path, "..", destination)
        )
        self._permit(call, "MANAGE", join(path, ".."))
        self._permit(call, "MANAGE", join(target, ".."))
        if self._namespace.exists(target):
            self._permit(call, "DELETE", target)
        self._storage.move(path, target)

    @staticmethod
    def _permit(call: Call, activity: str, path: str) -> None:
        if not call.login.permits(activity, path):
            raise ApiError(403)


async def _send_listing(
    request: web.BaseRequest, reply: dict[str, object], children: list[Inode], wanted: Wanted
) -> web.StreamResponse:
    """Send a directory piece by piece: it may have a million entries."""
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    await response.write((compact(reply)[:-1] + ',"children":[').encode())
    for start in range(0, len(children), BLOCK):
        block = ",".join(compact(describe(c, wanted, named=True)) for c in children[start : start + BLOCK])
        await response.write((("," if start else "") + block).encode())
        await asyncio.sleep(0)
    await response.write(b"]}")
    return response


def _range(query: dict[str, str]) -> tuple[int, int]:
    """Return the first and the end of the wanted entries; every page scans anew (section 5)."""
    try:
        first = int(query.get("offset", "0"))
        count = int(query.get("limit", str(sys.maxsize)))
    except ValueError:
        raise ApiError(400, "limit and offset must be an integer value.") from None
    if first < 0 or count < 0:
        raise ApiError(400, "limit and offset can not be less than zero.")
    return first, first + count


def _text(body: dict[str, object], key: str) -> str:
    value = body.get(key)
    if not isinstance(value, str) or not value:
        raise ApiError(400, f'JSONObject["{key}"] not found.')
    return value
