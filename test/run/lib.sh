# Shared by the scripts of test/run, which source it. Says who runs servers and where.
#
# initdb refuses root, so root runs servers and everything that talks to them closely as user
# postgres; anybody else as himself. That user may be unable to read this tree (in root's home, say),
# therefore tests run on a copy of it in a work directory of that user. The directory is closed to
# all others, and with it the server's socket: the servers trust whoever can open it.

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
pg_config=${PG_CONFIG:-pg_config}
export PATH=$PATH:/usr/sbin:/sbin # runuser, for a root whose PATH lacks them

# What a calling make handed down is not for the makes started here.
unset MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES
# Nor is a connection of the user for the tests.
unset PGHOST PGPORT PGUSER PGDATABASE PGPASSWORD PGSERVICE PGOPTIONS PGDATA PGAPPNAME

if [ "$(id -u)" -eq 0 ]; then server_user=postgres; else server_user=$(id -un); fi

# as_server runs a command as the server's user, away from a directory he may not enter.
as_server() {
    if [ "$(id -u)" -eq 0 ]; then
        (cd / && HOME=/ exec runuser -u "$server_user" -- "$@")
    else
        (cd / && exec "$@")
    fi
}

# make_work makes a work directory and prints its name. In /tmp, since a socket's path is short.
make_work() {
    local dir
    dir=$(mktemp -d /tmp/leadroute.XXXXXX)
    give "$dir"
    echo "$dir"
}

# give makes the server's user the owner of a directory.
give() {
    [ "$(id -u)" -ne 0 ] || chown -R "$server_user:" "$1"
}

# stage builds leadroute and installs it below a directory instead of into the system.
stage() {
    local log
    log=$(mktemp)
    if ! make -C "$top" -j2 all >"$log" 2>&1 || ! make -C "$top" install DESTDIR="$1" >>"$log" 2>&1; then
        cat "$log" >&2
        rm -f "$log"
        return 1
    fi
    rm -f "$log"
    give "$1"
}

# copy_tree copies what is tracked and what is new, but nothing built.
copy_tree() {
    mkdir -p "$2"
    tar -C "$1" --exclude=./.git --exclude=./build --exclude='*.o' --exclude='*.so' --exclude='*.d' \
        -cf - . | tar -C "$2" -xf -
    give "$2"
}

# library prints the full path that shared_preload_libraries needs for a staged library.
library() {
    echo "$1$("$pg_config" --pkglibdir)/leadroute"
}
