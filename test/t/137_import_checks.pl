# The real rule sets of nine versions, imported: check_rules() proves that the last entry of versions 4 to 6
# is unreachable, as it asks what the ninth asks, and proves it of no other entry in any version.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use LeadrouteTest;
use PostgreSQL::Test::Utils qw(slurp_file);
use Test::More;

my $node = start_node('main');
$node->safe_psql('postgres', q{
	CREATE TABLE request (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, sto text, bto text, origin text, owner_id text);
	SELECT leadroute.attach('request')});
for my $version (1 .. 9)
{
	my $xml = slurp_file("$FindBin::RealBin/../data/salesforce/hist_nav0$version.Case.assignmentRules-meta.xml");
	my $found = $node->safe_psql('postgres', <<"SQL");
SET client_min_messages = warning;
BEGIN;
SELECT FROM leadroute.import_salesforce_rules('request', \$xml\$$xml\$xml\$,
    '{"Case.STO_Category__c": "sto", "Case.BTO_Category__c": "bto", "Case.Origin": "origin"}');
WITH numbered AS (SELECT r.id, row_number() OVER (ORDER BY r.position) AS entry FROM leadroute.rule r WHERE r.lead_table = 'request' AND r.active)
SELECT string_agg(format('%s by %s', n.entry, (SELECT string_agg(o.entry::text, ',') FROM numbered o WHERE o.id = ANY (c.other_rules))), '; ')
FROM leadroute.check_rules('request') c JOIN numbered n ON n.id = c.rule
WHERE c.finding IN ('unreachable', 'contradiction') AND c.certainty = 'proved';
ROLLBACK;
SQL
	$found =~ s/\s+\z//;
	is($found =~ s/\A\s+//r, $version >= 4 && $version <= 6 ? '16 by 9' : '', "version $version");
}
done_testing();
