"""dCache's billing records as its serializers write them (modules/dcache, ``org.dcache.notification``; the
members and their order of meaning are theirs, the values are made up). One of each kind, and a few of the
traps: the door's own word on an upload, reads, failures, copies between pools.
"""

import json
from collections.abc import Mapping
from typing import Any

DATE = "2026-11-23T10:15:30.123+01:00"
STATUS = {"code": 0, "msg": ""}
SUBJECT = ["UserNamePrincipal[alice]", "UidPrincipal[1000]", "Origin[192.0.2.7]"]
CELL = {"cellType": "pool", "cellName": "pool_a1", "cellDomain": "pool-a1Domain"}
DOOR = {"cellType": "door", "cellName": "webdav-dcache", "cellDomain": "doorDomain"}


def _about(path: str, pnfsid: str) -> dict[str, Any]:
    return {
        "session": "door:webdav-dcache@doorDomain:AAZC3xqn4Vg:1763889330123000",
        "subject": SUBJECT,
        "pnfsid": pnfsid,
        "billingPath": path,
        "fileSize": 1048576,
        "storageInfo": "test:raw@osm",
    }


def _record(kind: str, cell: Mapping[str, Any], **members: Any) -> dict[str, Any]:
    common = {"version": "1.0", "msgType": kind, "date": DATE, "queuingTime": 0, "status": STATUS}
    return {**common, **cell, **members}


def transfer(
    path: str, *, pnfsid: str = "0000A1B2C3D4E5F60718293A4B5C6D7E8F90", **members: Any
) -> dict[str, Any]:
    """``MoverInfoMessageSerializer``: a pool's mover has ended. As it stands: an upload that is done."""
    return (
        _record(
            "transfer",
            CELL,
            **_about(path, pnfsid),
            meanWriteBandwidth=117440512.5,
            writeActive="PT0.010S",
            localEndpoint="192.0.2.20:28531",
            transferSize=1048576,
            transferTime=31,
            isWrite="write",
            protocolInfo={
                "protocol": "Http",
                "versionMajor": 1,
                "versionMinor": 1,
                "transferTag": "",
                "port": 0,
                "host": "192.0.2.7",
            },
            initiator="door:webdav-dcache@doorDomain:AAZC3xqn4Vg:1763889330123000",
            isP2p=False,
            transferPath=path,
        )
        | members
    )


def request(path: str) -> dict[str, Any]:
    """``DoorRequestMessageSerializer``: the same upload, as the door tells it; ``VERSION`` is in capitals."""
    record = _record("request", DOOR, **_about(path, "0000A1B2C3D4E5F60718293A4B5C6D7E8F90"))
    record["VERSION"] = record.pop("version")
    return record | {
        "sessionDuration": 120,
        "transferPath": path,
        "client": "192.0.2.7",
        "clientChain": "192.0.2.7",
        "mappedUID": 1000,
        "mappedGID": 1000,
        "owner": "alice",
        # What the door was told by the pool, had it in the same members as the pool's own record.
        "moverInfo": {"msgType": "transfer", "isWrite": "write", "isP2p": False, "status": STATUS},
    }


def remove(path: str) -> dict[str, Any]:
    """``RemoveFileInfoMessageSerializer``."""
    return _record("remove", CELL, **_about(path, "00003F"), transaction="pool:pool_a1@pool-a1Domain:1763")


def tape(kind: str, path: str) -> dict[str, Any]:
    """``StorageInfoMessageSerializer``: ``store`` or ``restore``."""
    return _record(
        kind,
        CELL,
        **_about(path, "0000A1B2C3D4E5F60718293A4B5C6D7E8F90"),
        transaction="pool:pool_a1@pool-a1Domain:1763",
        transferTime=5000,
        hsm={"type": "osm", "instance": "osm", "provider": "script"},
        locations=["osm://osm/?store=test&group=raw&bfid=0000A1"],
    )


def hit(path: str) -> dict[str, Any]:
    """``PoolHitInfoMessageSerializer``: a read found its file on a pool; ``filesize`` is in small letters."""
    record = _record("hit", CELL, pnfsid="0000A1", filesize=1048576, billingPath=path, cached=True)
    del record["queuingTime"]
    return record | {
        "protocol": "Http-1.1:192.0.2.7:0:webdav-dcache:doorDomain:/x",
        "storageInfo": "test:raw@osm",
    }


def warning() -> dict[str, Any]:
    """``WarningPnfsFileInfoMessageSerializer``: about no path at all."""
    record = _record("warning", CELL, status={"code": 10001, "msg": "checksum of a replica differs"})
    del record["queuingTime"]
    return record


def samples(below: str = "/data/raw") -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Records that tell of a finished upload below the path, and all others."""
    wanted = [
        transfer(f"{below}/a.h5"),
        transfer(f"{below}/deep/b c+\u20ac#%.h5"),
        transfer(f"{below}/a.h5", pnfsid="0000B2"),  # over the first one: another file
        transfer(f"{below}/c.h5", isWrite=True),
    ]
    path = f"{below}/a.h5"
    nameless = transfer(path)
    del nameless["billingPath"]
    others = [
        transfer(path, isWrite="read"),
        transfer(path, isWrite=False),
        transfer(path, isP2p=True),
        transfer(path, isP2p=True, isWrite="read"),
        transfer(path, status={"code": 666, "msg": "Client disconnected before the upload was complete"}),
        transfer(path, status={"code": 10, "msg": "no space left"}),
        transfer("Unknown"),
        transfer("/data/other/a.h5"),
        nameless,
        request(path),
        remove(path),
        tape("store", path),
        tape("restore", path),
        hit(path),
        warning(),
    ]
    return wanted, others


def encoded(record: Mapping[str, Any]) -> bytes:
    """As on the topic: UTF-8, ``/`` escaped where org.json does (after ``<``): here nowhere."""
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode()
