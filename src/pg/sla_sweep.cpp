// sweep()'s part in policies: what is due, in batches that are committed (sql/sla_sweep.sql).
#include "sla_sweep.h"

constexpr int kBatch = 100; // leads in one transaction

// One batch, as leadroute's owner. `work` says how far the walk has come, NULL: it begins.
static char* walk_batch(NameData* caller, const char* work, int most, int64* done) {
    Oid types[] = {NAMEOID, TEXTOID, INT4OID};
    Datum values[] = {NameGetDatum(caller), work == NULL ? (Datum)0 : CStringGetTextDatum(work),
                      Int32GetDatum(most)};
    OwnerScope owner;
    owner_scope_begin(&owner);
    if (SPI_execute_with_args("SELECT w.next_work::pg_catalog.text, w.done"
                              " FROM leadroute._sla_walk(leadroute._sweep_tenants($1),"
                              "   $2::pg_catalog.jsonb, $3) w",
                              3, types, values, work == NULL ? " n " : NULL, false,
                              1) != SPI_OK_SELECT ||
        SPI_processed != 1)
        elog(ERROR, "cannot walk through what is due");
    owner_scope_end(&owner);
    bool isnull;
    *done += DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull));
    char* next = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
    SPI_freetuptable(SPI_tuptable);
    return next;
}

int64 sla_sweep(NameData* caller, int64 most, TimestampTz until) {
    int64 done = 0;
    char* work = NULL;
    do {
        if (done >= most || GetCurrentTimestamp() >= until)
            break;
        char* before = work;
        work = walk_batch(caller, work, (int)Min(kBatch, most - done), &done);
        if (before != NULL)
            pfree(before);
        SPI_commit();
        CHECK_FOR_INTERRUPTS();
    } while (work != NULL);
    return done;
}
