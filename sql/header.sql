\echo Use "CREATE EXTENSION leadroute" to load this file. \quit

-- Nothing in this script may be resolved through schemas that others can write to.
SET LOCAL search_path TO pg_catalog, pg_temp;

-- The schema is created here, not by a `schema` line in the control file, and without IF NOT
-- EXISTS: a schema that exists already has an owner, who could add overloads of our functions.
CREATE SCHEMA leadroute;
COMMENT ON SCHEMA leadroute IS
    'Lead routing: reps, pools and rules as rows, the record of every decision, and the functions and views over them.';
