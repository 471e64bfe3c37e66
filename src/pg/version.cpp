// The library's version, and what extension versions it works with.
//
// After an upgrade of the files the server runs on with the old library until it is restarted, and
// each database keeps the old extension until ALTER EXTENSION ... UPDATE. Neither may meet what it
// does not know: inserts then fail with LR014, and so does an upgrade script, which begins with
// SELECT leadroute._require_library('its version').
#include "leadroute.h"

extern "C" {
#include "catalog/pg_extension.h"
#include "commands/extension.h"
#include "utils/fmgroids.h"
}

// The Makefile says which; tools that only read the sources need none.
#ifndef LEADROUTE_VERSION
#define LEADROUTE_VERSION "unknown"
#endif

// Found as one string in the file, so that a test can make a library of another version.
static const char kVersion[] = "leadroute library version " LEADROUTE_VERSION;

static const char* library_version(void) {
    return kVersion + strlen("leadroute library version ");
}

static char* extension_version(void) {
    Relation extensions = table_open(ExtensionRelationId, AccessShareLock);
    ScanKeyData key;
    ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber, F_NAMEEQ,
                CStringGetDatum("leadroute"));
    SysScanDesc scan = systable_beginscan(extensions, ExtensionNameIndexId, true, NULL, 1, &key);
    HeapTuple row = systable_getnext(scan);
    char* version = NULL;
    if (HeapTupleIsValid(row)) {
        bool isnull;
        Datum value =
            heap_getattr(row, Anum_pg_extension_extversion, RelationGetDescr(extensions), &isnull);
        version = isnull ? NULL : TextDatumGetCString(value);
    }
    systable_endscan(scan);
    table_close(extensions, AccessShareLock);
    return version;
}

void version_require(void) {
    const char* extension = extension_version();
    // Within CREATE EXTENSION there is none yet.
    if (extension == NULL || creating_extension || strcmp(extension, library_version()) == 0)
        return;
    ereport(ERROR,
            (errcode(ERRCODE_LR_VERSIONS_DIFFER),
             errmsg("leadroute's library is of version %s, its extension in this database of "
                    "version %s",
                    library_version(), extension),
             errdetail("Leads are routed when both are the same."),
             errhint("Install one version, restart the server so that its library is loaded, then "
                     "ALTER EXTENSION leadroute UPDATE in each database.")));
}

extern "C" {
PG_FUNCTION_INFO_V1(leadroute_library_version);
PG_FUNCTION_INFO_V1(leadroute_require_library);

// _library_version() -> text
Datum leadroute_library_version(PG_FUNCTION_ARGS) {
    (void)fcinfo;
    PG_RETURN_TEXT_P(cstring_to_text(library_version()));
}

// _require_library(version text)
Datum leadroute_require_library(PG_FUNCTION_ARGS) {
    char* wanted = text_to_cstring(PG_GETARG_TEXT_PP(0));
    if (strcmp(wanted, library_version()) != 0)
        ereport(ERROR,
                (errcode(ERRCODE_LR_VERSIONS_DIFFER),
                 errmsg("the loaded library of leadroute is of version %s, not %s",
                        library_version(), wanted),
                 errdetail("The server keeps the library that it started with."),
                 errhint("Restart the server, then run ALTER EXTENSION leadroute UPDATE again.")));
    PG_RETURN_VOID();
}
}
