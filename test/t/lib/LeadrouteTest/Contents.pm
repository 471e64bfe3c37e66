# All that leadroute keeps in a database, as lines, and what two such texts differ in: for copies,
# dumps and upgrades.
#
#   my $before = contents($node, 'postgres', 'public.leads');
#   is(difference($before, contents($other, 'postgres', 'public.leads')), '', 'nothing differs');
#
# contents(server, database, lead tables…) has every row of leadroute's tables but checkpoint, event_cursor and sweep_run, of the
# lead tables, the position of sequences, rights, policies and triggers.
package LeadrouteTest::Contents;

use strict;
use warnings FATAL => 'all';

use Exporter 'import';

our @EXPORT = qw(contents difference);

sub contents
{
	my ($server, $db, @leads) = @_;
	my @own = split /\n/, $server->safe_psql($db, <<'SQL');
SELECT format('leadroute.%I', relname) FROM pg_class
WHERE relnamespace = 'leadroute'::regnamespace AND relkind = 'r' AND relname NOT IN ('checkpoint', 'event_cursor', 'sweep_run')
SQL
	my $rows = join ' UNION ALL ', map { "SELECT '$_ ' || t::text AS line FROM $_ t" } @own, @leads;
	return $server->safe_psql($db, <<"SQL");
SET search_path = '';
SELECT regexp_replace(line, E'\\n *', ' ', 'g') FROM ($rows
    UNION ALL SELECT format('%s at %s', s.oid::regclass, pg_sequence_last_value(s.oid)) FROM pg_class s
        WHERE s.relkind = 'S' AND s.relnamespace IN ('leadroute'::regnamespace, 'public'::regnamespace)
    UNION ALL SELECT format('%s for %s', relname, (SELECT string_agg(a::text, ' ' ORDER BY a::text)
            FROM unnest(coalesce(relacl, acldefault('r', relowner))) a))
        FROM pg_class WHERE relnamespace = 'leadroute'::regnamespace AND relkind IN ('r', 'v')
    UNION ALL SELECT format('%s %s %s', polrelid::regclass, polname, pg_get_expr(polqual, polrelid)) FROM pg_policy
    UNION ALL SELECT format('%s on %s calls %s: %s', tgname, tgrelid::regclass, tgfoid::regproc, tgenabled) FROM pg_trigger WHERE NOT tgisinternal) l
ORDER BY line COLLATE "C"
SQL
}

# difference lists what only one of the two has.
sub difference
{
	my ($one, $other) = @_;
	my (%one, %other);
	$one{$_} = 1 for split /\n/, $one;
	$other{$_} = 1 for split /\n/, $other;
	return join "\n", (map { "- $_" } grep { !$other{$_} } sort keys %one),
	  (map { "+ $_" } grep { !$one{$_} } sort keys %other);
}

1;
