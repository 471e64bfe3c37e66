-- The history of configuration: each row counts its changes, and config_change keeps them.

CREATE FUNCTION leadroute._stamp() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'leadroute_stamp';
COMMENT ON FUNCTION leadroute._stamp() IS
    'Numbers a row''s changes: sets version and changed_at; with the key''s column as argument those of a row that was deleted go on. What a superuser inserts with a version, as a restore does, keeps both.';

CREATE FUNCTION leadroute._log_change() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'leadroute_log_change';
COMMENT ON FUNCTION leadroute._log_change() IS
    'Writes a change to config_change; the arguments are the columns that tell which row.';
