"""Listeners on libpq, for what psql cannot do: to see when a notification arrives, and to take it at
once. As a program: so many of them on a channel, which say when they are ready and go on until they
are killed."""

import ctypes
import ctypes.util
import datetime
import json
import select
import sys
import time


class Notify(ctypes.Structure):
    _fields_ = [("relname", ctypes.c_char_p), ("be_pid", ctypes.c_int), ("extra", ctypes.c_char_p)]


def library():
    pq = ctypes.CDLL(ctypes.util.find_library("pq"))
    pq.PQconnectdb.restype = pq.PQexec.restype = ctypes.c_void_p
    pq.PQexec.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    for name in ("PQsocket", "PQconsumeInput", "PQstatus", "PQfinish", "PQnotifies"):
        getattr(pq, name).argtypes = [ctypes.c_void_p]
    pq.PQclear.argtypes = pq.PQfreemem.argtypes = [ctypes.c_void_p]
    pq.PQnotifies.restype = ctypes.POINTER(Notify)
    return pq


class Listener:
    def __init__(self, conninfo, channel="leadroute"):
        self.pq = library()
        self.connection = self.pq.PQconnectdb(conninfo.encode())
        if self.pq.PQstatus(self.connection) != 0:
            raise RuntimeError(f"cannot connect to {conninfo}")
        self.pq.PQclear(self.pq.PQexec(self.connection, f"LISTEN {channel}".encode()))

    def latencies(self, seconds):
        """Seconds from each event's decision (its transaction still had to commit) to its arrival."""
        found, end = [], time.monotonic() + seconds
        while time.monotonic() < end:
            select.select([self.pq.PQsocket(self.connection)], [], [], 0.1)
            self.pq.PQconsumeInput(self.connection)
            now = time.time()
            while notify := self.pq.PQnotifies(self.connection):
                for event in json.loads(notify.contents.extra):
                    found.append(now - datetime.datetime.fromisoformat(event["at"]).timestamp())
                self.pq.PQfreemem(notify)
        return found

    def take(self):
        self.pq.PQconsumeInput(self.connection)
        while notify := self.pq.PQnotifies(self.connection):
            self.pq.PQfreemem(notify)

    def close(self):
        self.pq.PQfinish(self.connection)


def main(conninfo, channel, count):
    listeners = [Listener(conninfo, channel) for _ in range(count)]
    by_socket = {one.pq.PQsocket(one.connection): one for one in listeners}
    print("ready", flush=True)
    while True:
        for socket in select.select(list(by_socket), [], [])[0]:
            by_socket[socket].take()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
