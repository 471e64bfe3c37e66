-- Rights. The app needs none but those on its own lead table: triggers run without EXECUTE, and
-- those that write the record run with the rights of its owner. Everything else is for the
-- superuser and for whom the superuser lets.

REVOKE ALL ON ALL ROUTINES IN SCHEMA leadroute FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA leadroute FROM PUBLIC;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA leadroute FROM PUBLIC;
REVOKE ALL ON SCHEMA leadroute FROM PUBLIC;

-- The WHEN of a lead table's trigger is evaluated as whoever inserts.
GRANT EXECUTE ON FUNCTION leadroute._after_pending() TO PUBLIC;
