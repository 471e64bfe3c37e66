// Functions that do with the rights of leadroute's owner what their caller may ask for.
//
// leadroute.f(a, b) declared with leadroute_for_caller runs leadroute._f_for(caller, a, b), which
// nobody else may execute, as the owner of leadroute's tables. The caller is whoever's rights are
// in force where f is called. SECURITY DEFINER could not tell that: in it current_user is the
// owner, and the login and SET ROLE are those of a superuser also where one happens to run somebody
// else's function.
#include "leadroute.h"

extern "C" {
#include "catalog/pg_proc.h"
}

// Finds _f_for for f. By name and arguments, so that one symbol serves all.
static FmgrInfo* implementation(FmgrInfo* gate) {
    if (gate->fn_extra != NULL)
        return static_cast<FmgrInfo*>(gate->fn_extra);
    HeapTuple row = SearchSysCache1(PROCOID, ObjectIdGetDatum(gate->fn_oid));
    if (!HeapTupleIsValid(row))
        elog(ERROR, "cache lookup failed for function %u", gate->fn_oid);
    Form_pg_proc form = reinterpret_cast<Form_pg_proc>(GETSTRUCT(row));
    Oid types[FUNC_MAX_ARGS];
    int count = form->pronargs;
    if (count >= FUNC_MAX_ARGS)
        elog(ERROR, "function %u has too many arguments", gate->fn_oid);
    types[0] = NAMEOID;
    for (int i = 0; i < count; i++)
        types[i + 1] = form->proargtypes.values[i];
    const char* name = NameStr(form->proname);
    char* wanted = psprintf("_%s_for", name[0] == '_' ? name + 1 : name);
    Oid oid = GetSysCacheOid3(PROCNAMEARGSNSP, Anum_pg_proc_oid, CStringGetDatum(wanted),
                              PointerGetDatum(buildoidvector(types, count + 1)),
                              ObjectIdGetDatum(form->pronamespace));
    ReleaseSysCache(row);
    if (!OidIsValid(oid))
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_FUNCTION),
                        errmsg("function %s has no function %s behind it", name, wanted)));
    FmgrInfo* info = static_cast<FmgrInfo*>(MemoryContextAlloc(gate->fn_mcxt, sizeof(FmgrInfo)));
    fmgr_info_cxt(oid, info, gate->fn_mcxt);
    gate->fn_extra = info;
    return info;
}

void require_level(int64 tenant, const char* levels) {
    NameData caller;
    namestrcpy(&caller, GetUserNameFromId(GetUserId(), false));
    Oid types[] = {NAMEOID, INT8OID, TEXTOID};
    Datum values[] = {NameGetDatum(&caller), Int64GetDatum(tenant), CStringGetTextDatum(levels)};
    OwnerScope owner;
    owner_scope_begin(&owner);
    SPI_connect();
    if (SPI_execute_with_args("SELECT leadroute._require_for($1, $2, $3::text[])", 3, types, values,
                              NULL, true, 1) != SPI_OK_SELECT)
        elog(ERROR, "cannot read leadroute.access");
    SPI_finish();
    owner_scope_end(&owner);
}

extern "C" {
PG_FUNCTION_INFO_V1(leadroute_for_caller);

Datum leadroute_for_caller(PG_FUNCTION_ARGS) {
    FmgrInfo* info = implementation(fcinfo->flinfo);
    NameData caller;
    namestrcpy(&caller, GetUserNameFromId(GetUserId(), false));

    // All rows at once: between two of them the caller's rights would be in force.
    ReturnSetInfo* rows = NULL;
    ReturnSetInfo own_rows;
    if (fcinfo->flinfo->fn_retset) {
        rows = reinterpret_cast<ReturnSetInfo*>(fcinfo->resultinfo);
        if (rows == NULL || !IsA(rows, ReturnSetInfo) ||
            (rows->allowedModes & SFRM_Materialize) == 0)
            ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                            errmsg("set-valued function called where a set is not accepted")));
        own_rows = *rows;
        own_rows.allowedModes |= SFRM_Materialize_Preferred;
    }
    LOCAL_FCINFO(call, FUNC_MAX_ARGS);
    InitFunctionCallInfoData(
        *call, info, static_cast<short>(PG_NARGS() + 1), PG_GET_COLLATION(), NULL,
        rows == NULL ? fcinfo->resultinfo : reinterpret_cast<fmNodePtr>(&own_rows));
    call->args[0].value = NameGetDatum(&caller);
    call->args[0].isnull = false;
    for (int i = 0; i < PG_NARGS(); i++)
        call->args[i + 1] = fcinfo->args[i];

    OwnerScope owner;
    owner_scope_begin(&owner);
    Datum result = FunctionCallInvoke(call);
    owner_scope_end(&owner);

    fcinfo->isnull = call->isnull;
    if (rows != NULL) {
        if (own_rows.returnMode != SFRM_Materialize)
            elog(ERROR, "function %u returns its rows one by one", info->fn_oid);
        rows->returnMode = own_rows.returnMode;
        rows->isDone = own_rows.isDone;
        rows->setResult = own_rows.setResult;
        rows->setDesc = own_rows.setDesc;
    }
    return result;
}
}
