#!/usr/bin/python3
"""Audits the install script: sql_audit.py FILE.

The script runs as superuser, so it must not take over or trust what somebody else has made, and its
functions must not look names up where others can write. Unqualified names inside function bodies
are fine because every function pins its search_path, or is C. Parsed by PostgreSQL's own parser
(Debian's python3-pglast).
"""

import re
import sys

from pglast import parse_sql
from pglast.parser import ParseError
from pglast.visitors import Visitor

PINNED_PATH = ["pg_catalog", "pg_temp"]

# May run with the rights of leadroute's owner; every entry says why.
SECURITY_DEFINER = {
    # Row triggers of lead tables: who changes a lead needs no right on leadroute's tables.
    "leadroute._follow_owner",
    "leadroute.follow_score",
    "leadroute.follow_key",
    "leadroute.follow_delete",
    "leadroute.follow_truncate",
    # Event triggers: whoever alters or drops a lead table needs none either.
    "leadroute._after_ddl",
    "leadroute._after_drop",
}

# Objects that are reached through another object's comment need none of their own.
NEED_COMMENT = {"function", "table", "view", "index", "type", "sequence"}


class Audit(Visitor):
    """Collects findings, and what was created and commented on."""

    def __init__(self, text):
        self.text = text
        self.findings = []
        self.created = set()
        self.commented = set()
        self.definers = set()
        self.line = 0

    def say(self, message):
        self.findings.append(f"line {self.line}: {message}" if self.line else message)

    def visit(self, ancestors, node):
        """Every node: nothing is adopted or replaced that somebody else may have made."""
        if getattr(node, "if_not_exists", False):
            self.say("IF NOT EXISTS adopts an object somebody else may have made")
        if getattr(node, "replace", False):
            self.say("OR REPLACE adopts an object somebody else may have made")

    def visit_CreateSchemaStmt(self, _, node):
        if node.if_not_exists:
            self.say("IF NOT EXISTS adopts a schema somebody else may own")

    def visit_CreateFunctionStmt(self, _, node):
        self.visit(None, node)
        name = self.qualified(node.funcname)
        self.created.add(("function", name))
        options = {}
        for option in node.options:
            options.setdefault(option.defname, []).append(option.arg)
        language = options["language"][0].sval if "language" in options else "sql"
        if language in ("sql", "plpgsql"):
            self.check_path(name, options.get("set", []))
        if "security" in options and options["security"][0].boolval:
            self.definers.add(name)
            if name not in SECURITY_DEFINER:
                self.say(f"{name} is SECURITY DEFINER and not in the audit's list")
        parallel, volatility = (options[name][0].sval if name in options else None
                                for name in ("parallel", "volatility"))
        if parallel == "safe" and volatility != "immutable":
            self.say(f"{name} is PARALLEL SAFE: a worker cannot see this session's reservations")

    def check_path(self, name, settings):
        for setting in settings:
            if setting.name == "search_path":
                if [constant.val.sval for constant in setting.args] != PINNED_PATH:
                    self.say(f"{name} pins another search_path than {', '.join(PINNED_PATH)}")
                return
        self.say(f"{name} does not pin its search_path")

    def visit_CreateStmt(self, _, node):
        self.visit(None, node)
        self.relation("table", node.relation)

    def visit_ViewStmt(self, _, node):
        self.visit(None, node)
        self.relation("view", node.view)

    def visit_IndexStmt(self, _, node):
        self.visit(None, node)
        if node.idxname is None:
            self.say("an index without a name of its own")
        else:
            self.created.add(("index", f"leadroute.{node.idxname}"))

    def relation(self, kind, relation):
        if relation.schemaname != "leadroute":
            self.say(f"{kind} {relation.relname} is not created in schema leadroute by name")
        self.created.add((kind, f"{relation.schemaname}.{relation.relname}"))

    def visit_CommentStmt(self, _, node):
        kind = node.objtype.name.removeprefix("OBJECT_").lower()
        target = node.object
        if kind in ("function", "procedure"):
            kind, target = "function", target.objname
        if isinstance(target, tuple):
            self.commented.add((kind, ".".join(part.sval for part in target)))

    def qualified(self, parts):
        name = ".".join(part.sval for part in parts)
        if not name.startswith("leadroute."):
            self.say(f"{name} is not created in schema leadroute by name")
        return name

    def run(self):
        for statement in parse_sql(self.text):
            start = statement.stmt_location
            end = start + statement.stmt_len if statement.stmt_len else None
            raw = self.text.encode()[start:end].decode()
            self.line = self.text.encode()[:start].decode().count("\n") + 1
            self.line += raw[: len(raw) - len(raw.lstrip())].count("\n")
            self(statement.stmt)
        self.line = 0
        for kind, name in sorted(self.created - self.commented):
            if kind in NEED_COMMENT:
                self.say(f"{kind} {name} has no COMMENT")
        for name in sorted(SECURITY_DEFINER - self.definers):
            self.say(f"{name} is in the audit's list but not SECURITY DEFINER")
        return self.findings


def main():
    text = open(sys.argv[1], encoding="utf-8").read()
    # psql's meta-commands guard the script against being run by hand; the server skips them.
    text = re.sub(r"^\\.*$", "", text, flags=re.MULTILINE)
    try:
        findings = Audit(text).run()
    except ParseError as error:
        findings = [f"cannot be parsed: {error}"]
    if findings:
        sys.exit("\n".join(findings))


main()
