// Reps who miss their leads; see sla_step.h.
#include "sla_step.h"

// Both halves of a rep's leads, by index; what came before the rep was back, or changed, is past.
static const char kMissed[] =
    "WITH since (at) AS (SELECT greatest(r.changed_at, (SELECT max(upper(b.during))"
    "   FROM leadroute.rep_absence b WHERE b.tenant = r.tenant AND b.rep = r.id"
    "    AND upper(b.during) < clock_timestamp()))"
    "  FROM leadroute.rep r WHERE r.tenant = $1 AND r.id = $2)"
    " SELECT count(*) = $3 AND COALESCE(bool_and(l.missed), false) FROM ("
    "  SELECT e.missed FROM ("
    "   SELECT a.breached_at IS NOT NULL AS missed, COALESCE(a.breached_at, a.touched_at) AS at"
    "   FROM leadroute.assignment a WHERE a.tenant = $1 AND a.rep = $2 AND a.ended_at IS NULL"
    "    AND a.day > current_date - 60 AND a.due_at IS NOT NULL"
    "   UNION ALL"
    "   SELECT a.breached_at IS NOT NULL, COALESCE(a.breached_at, a.touched_at)"
    "   FROM leadroute.assignment a WHERE a.tenant = $1 AND a.rep = $2 AND a.ended_at IS NOT NULL"
    "    AND a.day > current_date - 60 AND a.due_at IS NOT NULL) e, since"
    "  WHERE e.at > since.at ORDER BY e.at DESC LIMIT $3) l";

bool sla_missed(const SlaEpisode* episode, int32 times) {
    static SPIPlanPtr plan;
    if (plan == NULL) {
        Oid types[] = {INT8OID, INT8OID, INT4OID};
        SPIPlanPtr made = SPI_prepare(kMissed, 3, types);
        if (made == NULL || SPI_keepplan(made) != 0)
            elog(ERROR, "cannot prepare to count breaches");
        plan = made;
    }
    Datum values[] = {Int64GetDatum(episode->tenant), Int64GetDatum(episode->rep),
                      Int32GetDatum(times)};
    if (SPI_execute_plan(plan, values, NULL, false, 1) != SPI_OK_SELECT || SPI_processed != 1)
        elog(ERROR, "cannot count breaches");
    bool isnull;
    bool missed =
        DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
    SPI_freetuptable(SPI_tuptable);
    return missed;
}

bool sla_set_away(const SlaEpisode* episode, const SlaTerms* terms) {
    Oid types[] = {INT8OID, INT8OID, INTERVALOID, TEXTOID};
    Datum values[] = {Int64GetDatum(episode->tenant), Int64GetDatum(episode->rep),
                      terms->away_for == NULL ? (Datum)0 : IntervalPGetDatum(terms->away_for),
                      CStringGetTextDatum(terms->name)};
    if (SPI_execute_with_args("SELECT leadroute._sla_set_away($1, $2, $3, $4)", 4, types, values,
                              terms->away_for == NULL ? "  n " : NULL, false, 1) != SPI_OK_SELECT ||
        SPI_processed != 1)
        elog(ERROR, "cannot set a rep away");
    bool isnull;
    bool away =
        DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
    SPI_freetuptable(SPI_tuptable);
    return away;
}
