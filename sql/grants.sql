-- Rights. The app needs none but those on its own lead table: triggers run without EXECUTE, and
-- those that write the record run with the rights of its owner. Everything else is for the
-- superuser and for whom the superuser lets.

REVOKE ALL ON ALL ROUTINES IN SCHEMA leadroute FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA leadroute FROM PUBLIC;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA leadroute FROM PUBLIC;
REVOKE ALL ON SCHEMA leadroute FROM PUBLIC;

-- The WHEN of a lead table's trigger is evaluated as whoever inserts.
GRANT EXECUTE ON FUNCTION leadroute._after_pending() TO PUBLIC;

-- SELECT on a view is enough to read it, and INSERT, UPDATE or DELETE (with SELECT) on the tables
-- concerned to write configuration: what these call is executed as whoever does it. These functions
-- turn their arguments into words, or look at a catalog that everybody may read.
GRANT EXECUTE ON FUNCTION
    leadroute._explanation(bytea), leadroute._status(bigint, text, timestamptz, timestamptz, text),
    leadroute._reason(bigint, text, bytea, jsonb, text), leadroute._tried_pools(bytea),
    leadroute._tried_words(jsonb, jsonb), leadroute._state_counts(jsonb),
    leadroute._state_words(text, integer, integer), leadroute._count_words(text, bigint),
    leadroute._name_problem(text, integer), leadroute._is_time_zone(text), leadroute._on_conflict(),
    leadroute._lead_relation(integer)
TO PUBLIC;
-- These read tables, with the rights of whoever calls them.
GRANT EXECUTE ON FUNCTION
    leadroute._require_attached(text), leadroute._missing(text, bigint, text, text),
    leadroute._missing_fallback(leadroute.lead_table), leadroute._users_of(text, bigint, bigint, text)
TO PUBLIC;
-- These show counts by id, never a name, to whom the schema is open.
GRANT EXECUTE ON FUNCTION
    leadroute._pool_memory(bigint), leadroute._in_flight(), leadroute._stat(bigint)
TO PUBLIC;
