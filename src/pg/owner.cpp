// Running our own statements as the owner of leadroute's tables.
#include "leadroute.h"
#include "placement.h"

extern "C" {
#include "catalog/pg_namespace.h"
}

void owner_scope_begin(OwnerScope* scope) {
    GetUserIdAndSecContext(&scope->user, &scope->security_context);
    HeapTuple schema = SearchSysCache1(NAMESPACEOID, ObjectIdGetDatum(leadroute_schema()));
    Oid owner = schema == NULL ? BOOTSTRAP_SUPERUSERID
                               : reinterpret_cast<Form_pg_namespace>(GETSTRUCT(schema))->nspowner;
    if (schema != NULL)
        ReleaseSysCache(schema);
    SetUserIdAndSecContext(owner, scope->security_context | SECURITY_LOCAL_USERID_CHANGE |
                                      SECURITY_NOFORCE_RLS);
    scope->guc_level = NewGUCNestLevel();
    (void)set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION,
                            GUC_ACTION_SAVE, true, 0, false);
}

void owner_scope_end(OwnerScope* scope) {
    AtEOXact_GUC(false, scope->guc_level);
    SetUserIdAndSecContext(scope->user, scope->security_context);
}
