-- What is refused in a rule's condition, and where in it: LINE and ^ are the position.
CREATE EXTENSION leadroute;
CREATE TABLE lead (
    id bigint PRIMARY KEY, city text, score int, twice int GENERATED ALWAYS AS (score * 2) STORED, owner_id bigint);
INSERT INTO leadroute.pool (name) VALUES ('sales');
SELECT leadroute.attach('lead');

CREATE PROCEDURE write(condition text) LANGUAGE sql AS $$
    INSERT INTO leadroute.rule (lead_table, position, name, condition, pool) VALUES ('lead', 1, 'r', condition, 'sales')
$$;
\set VERBOSITY default
\set SHOW_CONTEXT never
CALL write('score > 1 AND ciity = ''Pune''');
CALL write('score > 1 AND city = 5');
CALL write('score > 1 AND (city = ''Pune''');
CALL write('score > 1 FROM lead');
CALL write('score + 1');
CALL write('score > (SELECT 1)');
CALL write('score > max(score)');
CALL write('score > 1 AND random() > 0.5');
CALL write('score > 1 AND twice > 2');
CALL write('score > 1 AND xmin IS NULL');
CALL write('score > 1 AND my.function(score)');
CALL write('score > 1 AND fraud_score(city) > 1');
CALL write('city = ''Pune''
    AND score > ''high''');
CALL write('score > $1');

SELECT leadroute.detach('lead');
DROP PROCEDURE write(text);
DROP TABLE lead;
DROP EXTENSION leadroute;
