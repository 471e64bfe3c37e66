# Rules imported from Salesforce give every lead to whom an oracle says that Salesforce gives it, which
# reads the same XML and shares nothing with the extension: for real rule sets, and for random ones with
# all operations, lists, blanks and filters. And a new version of a file replaces the former one's rules.
use strict;
use warnings FATAL => 'all';
use utf8;

use Encode qw(decode_utf8 encode_utf8);
use FindBin;
use lib "$FindBin::RealBin/lib";
use LeadrouteTest;
use LeadrouteTest::Salesforce;
use PostgreSQL::Test::Utils qw(slurp_file);
use Test::More;

seed();
my $node = start_node('main');

sub literal { my ($text) = @_; return defined $text ? "'" . $text =~ s/'/''/gr . "'" : 'NULL'; }
sub psql { my ($sql) = @_; return decode_utf8($node->safe_psql('postgres', encode_utf8($sql))); }

# import gives [outcome, count] of the rows
sub import_rules
{
	my ($table, $xml, $map, $options) = @_;
	my $json = join ', ', map { qq("$_": "$map->{$_}") } sort keys %$map;
	return psql(sprintf q{SELECT string_agg(format('%%s %%s', n, outcome), ', ' ORDER BY outcome) FROM (
		SELECT outcome, count(*) AS n FROM leadroute.import_salesforce_rules(%s, %s, %s, %s) GROUP BY outcome) x},
		literal($table), literal($xml), literal("{$json}"), literal($options // '{}'));
}

# differences routes leads (hashes by field) and compares; columns: field => column
sub differences
{
	my ($table, $entries, $columns, $types, @leads) = @_;
	my @fields = sort keys %$columns;
	my $value = sub {
		my ($x) = @_;
		return ref $x ? 'ARRAY[' . join(',', map { literal($_) } @$x) . ']::text[]' : literal($x);
	};
	my @rows = map { my $lead = $leads[$_]; '(' . join(', ', $_ + 1, map { $value->($lead->{$_}) } @fields) . ')' } 0 .. $#leads;
	my $list = join ', ', 'id', map { $columns->{$_} } @fields;
	psql("DELETE FROM $table; SET leadroute.explain = off; INSERT INTO $table ($list) VALUES " . join(",\n", @rows));
	my %got = map { split /\|/, $_, 2 } split /\n/, psql(qq{
		SELECT d.lead_id, CASE WHEN d.pool = 'no assignee' THEN 'nobody' WHEN d.rep IS NOT NULL THEN 'user:' || r.ref
			WHEN d.pool IS NOT NULL THEN 'queue:' || d.pool END
		FROM leadroute.decision d LEFT JOIN leadroute.rep r ON r.id = d.rep WHERE d.lead_table = '$table' AND d.ended_at IS NULL});
	my $differences = 0;
	for my $i (0 .. $#leads)
	{
		my $wanted = assignee($entries, $leads[$i], $types);
		my $got = $got{ $i + 1 } // 'no record';
		next if $got eq $wanted;
		diag(encode_utf8(join ' ', "got '$got', wanted '$wanted' for", map { my $x = $leads[$i]{$_}; "$_=" . (ref $x ? "[@$x]" : $x // 'NULL') } @fields)) if $differences++ < 3;
	}
	return $differences;
}

# ---- real rule sets --------------------------------------------------------------------------------

# Leads with every value that the file tests for, in any case, with others and none.
sub leads_for
{
	my ($entries, $count) = @_;
	my %values;
	for my $criterion (map { @{ $_->{criteria} } } @$entries)
	{
		push @{ $values{ $criterion->{field} } }, (split /,/, $criterion->{value}), '', undef, 'something else', $criterion->{value} . ' plus';
	}
	return map {
		my %lead;
		for my $field (sort keys %values)
		{
			my @known = @{ $values{$field} };
			my $value = $known[ rand @known ];
			$value = rand() < 0.3 ? uc $value : rand() < 0.4 ? lc $value : $value if defined $value;
			$lead{$field} = $value;
		}
		\%lead
	} 1 .. $count;
}

# $count leads through a file, all of whose fields are columns of text.
sub file_conforms
{
	my ($file, $count, $outcome) = @_;
	my $xml = decode_utf8(slurp_file($file));
	my @entries = read_rules($xml);
	my @fields = do { my %seen; grep { !$seen{$_}++ } map { $_->{field} } map { @{ $_->{criteria} } } @entries };
	my %columns = map { $fields[$_] => 'f' . (abs(unpack('%32C*', $fields[$_])) % 10000) } 0 .. $#fields;
	my ($name) = $file =~ m{([^/]+?)\.\w+\.assignmentRules};
	my $table = "sf_" . ($file =~ /hist_nav/ ? 'nav' : $name);
	psql("CREATE TABLE IF NOT EXISTS $table (id bigint PRIMARY KEY, owner_id bigint);"
		. join('', map { "ALTER TABLE $table ADD COLUMN IF NOT EXISTS $_ text;" } values %columns)
		. "SELECT leadroute.attach('$table') WHERE NOT EXISTS (SELECT FROM leadroute.lead_table WHERE name = '$table')");
	my $got = import_rules($table, $xml, \%columns);
	is($got, $outcome, "$name: what the import does") if defined $outcome;
	is(psql("SELECT count(*) FROM leadroute.rule WHERE lead_table = '$table'"), scalar @entries, "$name: a rule for each entry");
	is(import_rules($table, $xml, \%columns), @entries . ' unchanged', "$name: once more changes nothing");
	is(differences($table, \@entries, \%columns, {}, leads_for(\@entries, $count)), 0, "$name: $count leads as the oracle says");
	return;
}

# the rule was renamed four times, and entries came before others and were repaired
my @outcomes = ('7 added', '1 added, 7 changed', '8 added, 8 changed', ('16 changed') x 2, ('8 changed, 8 unchanged') x 2, ('16 changed') x 2);
for my $file (sort glob "$FindBin::RealBin/../data/salesforce/*.xml")
{
	file_conforms($file, soak(300, 20_000), shift @outcomes);
}
like(psql("SELECT string_agg(condition, ';' ORDER BY position) FROM leadroute.rule WHERE lead_table = 'sf_nav'"),
	qr/^lower\(f\d+\) = 'hjelpemidler'/, 'the conditions are plain SQL');

# Rule sets that may not be shipped are read where they are.
SKIP:
{
	my @files = defined $ENV{LEADROUTE_RULE_SETS} ? sort glob "$ENV{LEADROUTE_RULE_SETS}/*.xml" : ();
	skip 'LEADROUTE_RULE_SETS names no folder with rule sets', 1 unless @files;
	file_conforms($_, soak(300, 20_000)) for @files;
}

# ---- random rule sets ------------------------------------------------------------------------------

my @words = ('US', 'usa', 'United States', 'Ufør', 'été', 'Smith, Jones', 'say "hi"', '100%', 'a_b', 'a\b', "O'Hare", 'x', 'gold', 'Golden', '<&>');
my %fields = (
	'Lead.Country' => { type => 'text', column => 'country', values => \@words },
	'Lead.Rating__c' => { type => 'text', column => "attrs ->> 'rating'", values => [ @words[ 5 .. 12 ] ] },
	'Lead.Interests__c' => { type => 'text', column => 'interests', values => [qw(red green blue)] },
	'Lead.Employees' => { type => 'number', column => 'employees', values => [qw(0 10 10.5 -3 1000)] },
	'Lead.Hot__c' => { type => 'boolean', column => 'hot', values => [qw(True False true 1 0)] },
	'Lead.Due__c' => { type => 'date', column => 'due', values => [qw(2026-01-31 2026-02-01 2024-02-29)] },
	'Lead.Tags__c' => { type => 'list', column => 'tags', values => [qw(Red green BLUE)] });
my %types = map { $_ => $fields{$_}{type} } keys %fields;
my %column_of = map { $_ => $fields{$_}{column} } keys %fields;
psql(q{CREATE TABLE random_leads (id bigint PRIMARY KEY, country varchar(40), rating text, interests text, employees numeric, hot boolean, due date,
	tags text[], attrs jsonb, owner_id bigint);
	CREATE FUNCTION set_attrs() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.attrs := jsonb_build_object(''rating'', NEW.rating); RETURN NEW; END';
	CREATE TRIGGER attrs BEFORE INSERT ON random_leads FOR EACH ROW EXECUTE FUNCTION set_attrs();
	SELECT leadroute.attach('random_leads')});

sub random_lead
{
	my %lead;
	for my $name (keys %fields)
	{
		my ($type, @values) = ($fields{$name}{type}, @{ $fields{$name}{values} });
		my $pick = sub { my $x = $values[ rand @values ]; $x = rand() < 0.5 ? uc $x : lc $x if rand() < 0.4 && $type ne 'boolean'; return $x };
		$lead{$name} = rand() < 0.15 ? undef
		  : $type eq 'list' ? [ map { $pick->() } 1 .. rand 3 ]
		  : $type eq 'boolean' ? (qw(t f))[ rand 2 ]
		  : $name =~ /Interests/ ? join(';', map { $pick->() } 1 .. 1 + rand 3)
		  : $type eq 'text' && rand() < 0.2 ? ('', '  ', 'nothing', $pick->() . ' and more', 'xx' . $pick->())[ rand 5 ]
		  : $pick->();
	}
	return \%lead;
}

my ($sets, $leads, $differences, $routed) = (soak(12, 200), 150, 0, 0);
my %inserted = (%column_of, 'Lead.Rating__c' => 'rating');
for my $set (1 .. $sets)
{
	my $xml = as_xml(random_rules(\%fields, 8 + rand 20));
	my @entries = read_rules($xml);
	my $wanted = @entries;
	my $got = import_rules('random_leads', $xml, \%column_of);
	my $rules = psql("SELECT count(*) FROM leadroute.rule WHERE lead_table = 'random_leads'");
	$differences++ unless $rules == $wanted && $got =~ /1 skipped/;
	my @leads = map { random_lead() } 1 .. $leads;
	$differences += differences('random_leads', \@entries, \%inserted, \%types, @leads);
	$routed += grep { assignee(\@entries, $_, \%types) ne '' } @leads;
}
is($differences, 0, "$sets random rule sets: $leads leads each as the oracle says");
cmp_ok($routed, '>', $sets * $leads / 4, 'many of them to somebody');
is(psql("SELECT count(*) FROM leadroute.alert WHERE kind = 'rule_error'"), 0, 'no condition raised an error');

verify_ok($node);
done_testing();
