-- STATE, continued: territories. As for tables.sql, only upgrade steps change this file's objects.
--
-- Keys are compared by their bytes (COLLATE "C"): in any database alike, and fast. An entry has no
-- version: entries come in bulk, and config_change tells of them by the statement (territory.sql).

CREATE TABLE leadroute.territory (
    tenant bigint NOT NULL DEFAULT 0,
    name text COLLATE "C" NOT NULL,
    key text NOT NULL,
    match text NOT NULL DEFAULT 'exact',
    author name NOT NULL DEFAULT current_user,
    version integer,
    changed_at timestamptz,
    PRIMARY KEY (tenant, name),
    CONSTRAINT territory_name_check CHECK (btrim(name) <> ''),
    CONSTRAINT territory_match_check CHECK (match IN ('exact', 'prefix'))
);

COMMENT ON TABLE leadroute.territory IS
    'Who has which part of the map: a rule with a territory as its target gives the lead to the pool or rep of the entry with the lead''s key.';
COMMENT ON COLUMN leadroute.territory.tenant IS 'The company the territory belongs to.';
COMMENT ON COLUMN leadroute.territory.name IS 'What rules and entries refer to; renaming is followed there.';
COMMENT ON COLUMN leadroute.territory.key IS 'SQL expression over the lead''s columns, of any type; its text is looked for among the entries. NULL is found nowhere.';
COMMENT ON COLUMN leadroute.territory.match IS 'exact: the entry with this key; prefix: the longest entry that the key begins with.';
COMMENT ON COLUMN leadroute.territory.author IS 'The role with whose rights the key is evaluated: who wrote it. Only a superuser may name another; a role that is missing makes the territory''s rules inactive, with an alert.';
COMMENT ON COLUMN leadroute.territory.version IS 'Counts the row''s changes, from 1; set by leadroute.';
COMMENT ON COLUMN leadroute.territory.changed_at IS 'Start of the transaction that changed the row last.';

CREATE TABLE leadroute.territory_entry (
    tenant bigint NOT NULL DEFAULT 0,
    territory text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    pool text,
    rep bigint,
    PRIMARY KEY (tenant, territory, key),
    FOREIGN KEY (tenant, territory) REFERENCES leadroute.territory (tenant, name) DEFERRABLE INITIALLY IMMEDIATE,
    FOREIGN KEY (tenant, pool) REFERENCES leadroute.pool (tenant, name) DEFERRABLE INITIALLY IMMEDIATE,
    FOREIGN KEY (tenant, rep) REFERENCES leadroute.rep (tenant, id) DEFERRABLE INITIALLY IMMEDIATE,
    CONSTRAINT territory_entry_key_check CHECK (key <> ''),
    CONSTRAINT territory_entry_target_check CHECK (num_nonnulls(pool, rep) = 1)
);
CREATE INDEX territory_entry_pool ON leadroute.territory_entry (tenant, pool) WHERE pool IS NOT NULL;
CREATE INDEX territory_entry_rep ON leadroute.territory_entry (tenant, rep) WHERE rep IS NOT NULL;

COMMENT ON TABLE leadroute.territory_entry IS
    'The entries of territories: which key belongs to which pool or rep. May be loaded with COPY.';
COMMENT ON INDEX leadroute.territory_entry_pool IS 'Finds the entries of a pool, for the foreign key.';
COMMENT ON INDEX leadroute.territory_entry_rep IS 'Finds the entries of a rep, for the foreign key.';
COMMENT ON COLUMN leadroute.territory_entry.tenant IS 'The company of territory, pool and rep.';
COMMENT ON COLUMN leadroute.territory_entry.territory IS 'The territory, by name.';
COMMENT ON COLUMN leadroute.territory_entry.key IS 'The text that a lead''s key equals, or begins with; leading zeros count.';
COMMENT ON COLUMN leadroute.territory_entry.pool IS 'Target: this pool.';
COMMENT ON COLUMN leadroute.territory_entry.rep IS 'Target: this rep.';

ALTER TABLE leadroute.rule ADD FOREIGN KEY (tenant, territory)
    REFERENCES leadroute.territory (tenant, name) DEFERRABLE INITIALLY IMMEDIATE;
CREATE INDEX rule_territory ON leadroute.rule (tenant, territory) WHERE territory IS NOT NULL;
COMMENT ON INDEX leadroute.rule_territory IS 'Finds the rules of a territory, for the foreign key and for renames.';

ALTER TABLE leadroute.territory ENABLE ROW LEVEL SECURITY;
ALTER TABLE leadroute.territory_entry ENABLE ROW LEVEL SECURITY;

SELECT pg_extension_config_dump('leadroute.territory', '');
SELECT pg_extension_config_dump('leadroute.territory_entry', '');
