"""The private server that the benchmark runs on, sessions with it, and pgbench."""

import contextlib
import os
import re
import shutil
import subprocess
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
CONTROL = os.path.join(TOP, "test/run/server")

# Durable, with nothing in the background: checkpoints are asked for before each cell, and enough
# WAL files are kept to be written over.
SETTINGS = [
    "shared_buffers = 2GB", "fsync = on", "full_page_writes = on", "synchronous_commit = on",
    "wal_compression = off", "autovacuum = off", "checkpoint_timeout = 1h",
    "max_wal_size = 8GB", "min_wal_size = 2GB", "huge_pages = off",
]


class MeasureError(Exception):
    """A figure could not be taken, or was not taken of what it claims to be."""


def checked(command, **options):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, **options)
    if done.returncode != 0:
        raise MeasureError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout


class Server:
    """A cluster in a directory of its own; builds and stages leadroute at its first start."""

    def __init__(self, directory, settings=()):
        self.directory = directory
        self.settings = SETTINGS + list(settings)
        self.env = dict(os.environ)
        self.sessions = []
        self.loads = []

    def start(self):
        # not captured: the server would keep the pipe open
        done = subprocess.run([CONTROL, "start", self.directory, *self.settings],
                              stdin=subprocess.DEVNULL, env=self.env)
        if done.returncode != 0:
            raise MeasureError(f"no server in {self.directory}")
        self.env = dict(entry.split("=", 1) for entry in checked(
            ["bash", "-c", 'eval "$("$1" env "$2")" && env -0', "bash", CONTROL, self.directory],
        ).split("\0") if "=" in entry)

    def stop(self):
        for session in list(self.sessions):
            session.close()
        checked([CONTROL, "stop", self.directory])

    def crash(self):
        """Stops the server as a crash would, with recovery at its next start."""
        for session in list(self.sessions):
            session.close()
        self.as_server("pg_ctl", "-D", f"{self.directory}/data", "-m", "immediate", "-w", "-s", "stop")

    def destroy(self):
        """Stops whatever runs and removes the directory."""
        for load in list(self.loads):
            load.kill()
        subprocess.run([CONTROL, "stop", self.directory], stdin=subprocess.DEVNULL, capture_output=True)
        shutil.rmtree(self.directory, ignore_errors=True)

    def as_server(self, *command):
        command = list(command)
        if os.getuid() == 0:
            command = ["runuser", "-u", "postgres", "--", "env", f"PATH={self.env['PATH']}"] + command
        return checked(command, cwd="/")

    def psql(self, database, *arguments):
        return checked(["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", database, *arguments],
                       env=self.env)

    def script(self, database, name, **variables):
        settings = [item for key, value in variables.items() for item in ("-v", f"{key}={value}")]
        self.psql(database, *settings, "-f", os.path.join(HERE, name))

    def session(self, database, **settings):
        return Session(self, database, **settings)

    def load(self, database, variant, **options):
        load = Load(self, database, variant, **options)
        self.loads.append(load)
        return load

    def create_database(self, database):
        self.psql("postgres", "-c", f"CREATE DATABASE {database}")


class Session:
    """A psql that stays open: statements go in, rows or times come out."""

    def __init__(self, server, database, **settings):
        self.server = server
        options = " ".join(f"-c {name}={value}" for name, value in settings.items())
        self.process = subprocess.Popen(
            ["psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", database],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env=dict(server.env, PGOPTIONS=options))
        server.sessions.append(self)

    def run(self, sql):
        """Runs statements and returns their rows, each a list of strings."""
        return self.send(sql + ";")

    def send(self, lines):
        try:
            self.process.stdin.write(lines + "\n\\echo ==done\n")
            self.process.stdin.flush()
        except BrokenPipeError as error:
            raise MeasureError(f"the session has ended before: {lines}") from error
        answer = []
        for line in self.process.stdout:
            if line == "==done\n":
                return [line.split("|") for line in answer]
            answer.append(line.rstrip("\n"))
        raise MeasureError(f"{lines}\n" + "\n".join(answer))

    def value(self, sql):
        return self.run(sql)[-1][0]

    def number(self, sql):
        return float(self.value(sql))

    def timed(self, sql):
        """Runs one statement and returns the seconds from sending it to its result."""
        rows = self.send(f"\\timing on\n{sql};\n\\timing off")
        times = [re.match(r"Time: ([0-9.]+) ms", row[0]) for row in rows]
        times = [float(match.group(1)) for match in times if match]
        if len(times) != 1:
            raise MeasureError(f"no time of {sql}: {rows}")
        return times[0] / 1000

    def close(self):
        self.server.sessions.remove(self)
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.stdout.read()
        self.process.wait()


class Load:
    """pgbench with clients that insert one lead after the other into <variant>.leads."""

    def __init__(self, server, database, variant, clients, rules, sync="on", events="worker", amount=(),
                 script="insert.pgbench"):
        options = f"-c search_path={variant} -c synchronous_commit={sync} -c leadroute.notify={events}"
        self.command = ["pgbench", "-n", "-M", "prepared", "-c", str(clients),
                        "-j", str(min(clients, os.cpu_count())), *map(str, amount),
                        "-D", f"rules={rules}", "-f", os.path.join(HERE, script), database]
        self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, text=True,
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                        env=dict(server.env, PGOPTIONS=options))

    def running(self):
        return self.process.poll() is None

    def finish(self):
        output = self.process.communicate()[0]
        if self.process.returncode != 0 or "number of failed transactions: 0 " not in output:
            raise MeasureError(f"{' '.join(self.command)}\n{output}")

    def kill(self):
        if self.running():
            self.process.kill()
            self.process.communicate()


def rate(control, load, variant, warm_up, seconds):
    """Leads per second of a running load, by its table's sequence, after a time to warm up: an app
    keeps its connections, so what a session does once is not what is measured."""
    mark = f"SELECT extract(epoch FROM clock_timestamp()), last_value FROM {variant}.leads_id_seq"
    time.sleep(warm_up)
    start, first = map(float, control.run(mark)[0])
    time.sleep(seconds)
    end, last = map(float, control.run(mark)[0])
    if not load.running():
        load.finish()
        raise MeasureError("the load ended before the measurement did")
    return (last - first) / (end - start)
