-- The order of lead keys in the indexes of the record: shorter ones first, then by bytes. Numbers
-- written as text come in their own order then, so that new leads are appended to an index instead
-- of splitting its pages in the middle, and two keys compare without asking a collation. Equality
-- is that of text.

CREATE FUNCTION leadroute._compare_keys(text, text) RETURNS integer
    LANGUAGE c IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE AS 'MODULE_PATHNAME', 'leadroute_compare_keys';
COMMENT ON FUNCTION leadroute._compare_keys(text, text) IS
    'Compares lead keys: by length in bytes, then by bytes. Below, at or above 0.';

CREATE FUNCTION leadroute._key_lt(text, text) RETURNS boolean
    LANGUAGE c IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE AS 'MODULE_PATHNAME', 'leadroute_key_lt';
COMMENT ON FUNCTION leadroute._key_lt(text, text) IS 'Implementation of the operator <#.';
CREATE FUNCTION leadroute._key_le(text, text) RETURNS boolean
    LANGUAGE c IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE AS 'MODULE_PATHNAME', 'leadroute_key_le';
COMMENT ON FUNCTION leadroute._key_le(text, text) IS 'Implementation of the operator <=#.';
CREATE FUNCTION leadroute._key_ge(text, text) RETURNS boolean
    LANGUAGE c IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE AS 'MODULE_PATHNAME', 'leadroute_key_ge';
COMMENT ON FUNCTION leadroute._key_ge(text, text) IS 'Implementation of the operator >=#.';
CREATE FUNCTION leadroute._key_gt(text, text) RETURNS boolean
    LANGUAGE c IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE AS 'MODULE_PATHNAME', 'leadroute_key_gt';
COMMENT ON FUNCTION leadroute._key_gt(text, text) IS 'Implementation of the operator >#.';

CREATE OPERATOR leadroute.<# (LEFTARG = text, RIGHTARG = text, FUNCTION = leadroute._key_lt,
    COMMUTATOR = OPERATOR(leadroute.>#), NEGATOR = OPERATOR(leadroute.>=#),
    RESTRICT = scalarltsel, JOIN = scalarltjoinsel);
COMMENT ON OPERATOR leadroute.<# (text, text) IS 'Before, in the order of lead keys.';
CREATE OPERATOR leadroute.<=# (LEFTARG = text, RIGHTARG = text, FUNCTION = leadroute._key_le,
    COMMUTATOR = OPERATOR(leadroute.>=#), NEGATOR = OPERATOR(leadroute.>#),
    RESTRICT = scalarlesel, JOIN = scalarlejoinsel);
COMMENT ON OPERATOR leadroute.<=# (text, text) IS 'Before or equal, in the order of lead keys.';
CREATE OPERATOR leadroute.>=# (LEFTARG = text, RIGHTARG = text, FUNCTION = leadroute._key_ge,
    COMMUTATOR = OPERATOR(leadroute.<=#), NEGATOR = OPERATOR(leadroute.<#),
    RESTRICT = scalargesel, JOIN = scalargejoinsel);
COMMENT ON OPERATOR leadroute.>=# (text, text) IS 'After or equal, in the order of lead keys.';
CREATE OPERATOR leadroute.># (LEFTARG = text, RIGHTARG = text, FUNCTION = leadroute._key_gt,
    COMMUTATOR = OPERATOR(leadroute.<#), NEGATOR = OPERATOR(leadroute.<=#),
    RESTRICT = scalargtsel, JOIN = scalargtjoinsel);
COMMENT ON OPERATOR leadroute.># (text, text) IS 'After, in the order of lead keys.';

CREATE OPERATOR FAMILY leadroute.key_ops USING btree;
COMMENT ON OPERATOR FAMILY leadroute.key_ops USING btree IS 'The order of lead keys.';
CREATE OPERATOR CLASS leadroute.key_ops FOR TYPE text USING btree FAMILY leadroute.key_ops AS
    OPERATOR 1 leadroute.<# (text, text),
    OPERATOR 2 leadroute.<=# (text, text),
    OPERATOR 3 pg_catalog.= (text, text),
    OPERATOR 4 leadroute.>=# (text, text),
    OPERATOR 5 leadroute.># (text, text),
    FUNCTION 1 leadroute._compare_keys(text, text);
COMMENT ON OPERATOR CLASS leadroute.key_ops USING btree IS
    'Lead keys in an index: shorter ones first, then by bytes. Finds by the usual = of text.';
