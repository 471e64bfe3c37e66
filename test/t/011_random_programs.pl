# Random programs of inserts in nested savepoints, three sessions at a time on the same reps, against
# a model that knows which leads are kept. After each round the leads are those of the model, and
# record and memory agree with them.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use LeadrouteTest;
use LeadrouteTest::Leads;
use Test::More;

seed();
my $node = start_node('main', extension => 0);
$node->safe_psql('postgres', 'CREATE ROLE limited; CREATE DATABASE leads');
$node->safe_psql('leads', leads_sql(qw(plain root_late)));

my @levels = ('read committed', 'repeatable read', 'read committed');
my @tables = qw(plain root_late root_late_high);
my @sources = ('x', 'x', 'rep', 'capped', 'wait', 'x', 'none');
my $checker = LeadrouteTest::Session->new($node, dbname => 'leads');
my @lane = map { { level => $levels[$_], number => $_ } } 0 .. 2;
my $next_key = 1000;
my %done; # how often what was done

sub connect_lane
{
	my ($lane) = @_;
	$lane->{session} = LeadrouteTest::Session->new($node, dbname => 'leads');
	$lane->{session}->query("SET default_transaction_isolation = '$lane->{level}'");
	return;
}

sub pick { return $_[ int rand @_ ] }

# ---- a program: SQL, and the keys that are there when it has ended ---------------------------------

# $p: sql, present (keys that this program sees), saved (a list of [savepoint, keys]).
sub new_keys
{
	my ($p, $n) = @_;
	my @keys = map { $next_key++ } 1 .. $n;
	@keys = map { $_ + HIGH } @keys if $p->{table} =~ /high/ || ($p->{table} !~ /plain/ && rand() < 0.5);
	return @keys;
}

sub rows { my (@keys) = @_; return join ', ', map { "($_, '" . pick(@sources) . "')" } @keys }

sub save
{
	my ($p) = @_;
	my $name = 's' . ++$p->{savepoints};
	push @{ $p->{saved} }, [ $name, { %{ $p->{present} } } ];
	$p->{sql} .= "SAVEPOINT $name;\n";
	return;
}

sub roll_back_to
{
	my ($p) = @_;
	my $saved = $p->{saved};
	my $i = int rand @$saved;
	$p->{present} = { %{ $saved->[$i][1] } };
	$p->{sql} .= "ROLLBACK TO $saved->[$i][0];\n";
	splice @$saved, $i + 1;
	return;
}

my %step = (
	insert => sub {
		my ($p) = @_;
		my @keys = new_keys($p, 1 + int rand 4);
		$p->{sql} .= "INSERT INTO $p->{table} (id, src) VALUES " . rows(@keys) . ";\n";
		$p->{present}{$_} = 1 for @keys;
	},
	do_nothing => sub {
		my ($p) = @_;
		my @keys = new_keys($p, 1 + int rand 3);
		my @there = grep { rand() < 0.4 } sort { $a <=> $b } keys %{ $p->{present} };
		$p->{sql} .= "INSERT INTO $p->{table} (id, src) VALUES " . rows(sort { $a <=> $b } @keys, @there) . " ON CONFLICT DO NOTHING;\n";
		$p->{present}{$_} = 1 for @keys;
	},
	# a block that fails, with a block in it that does not, and a third that goes on
	block => sub {
		my ($p) = @_;
		my ($first, $inner, $last) = new_keys($p, 3);
		my $insert = "INSERT INTO $p->{table} (id, src) VALUES";
		$p->{sql} .= "DO \$\$BEGIN BEGIN $insert @{[rows($first)]}; BEGIN $insert @{[rows($inner)]}; EXCEPTION WHEN OTHERS THEN RAISE; END;"
		  . " $insert @{[rows($inner)]}; EXCEPTION WHEN unique_violation THEN $insert @{[rows($last)]}; END; END\$\$;\n";
		$p->{present}{$last} = 1;
	},
	delete => sub {
		my ($p) = @_;
		my $key = pick(sort { $a <=> $b } keys %{ $p->{present} }) // return;
		delete $p->{present}{$key};
		$p->{sql} .= "DELETE FROM $p->{table} WHERE id = $key;\n";
	},
	owner => sub {
		my ($p) = @_;
		my $key = pick(sort { $a <=> $b } keys %{ $p->{present} }) // return;
		$p->{sql} .= "UPDATE $p->{table} SET owner_id = " . pick(1 .. 6, 'NULL') . " WHERE id = $key;\n";
	},
	save => \&save,
	release => sub {
		my ($p) = @_;
		my $saved = $p->{saved};
		return unless @$saved;
		my $i = int rand @$saved;
		$p->{sql} .= "RELEASE $saved->[$i][0];\n";
		splice @$saved, $i;
	},
	roll_back => sub { my ($p) = @_; roll_back_to($p) if @{ $p->{saved} } },
	# an error, out of which only a savepoint leads
	fail => sub {
		my ($p) = @_;
		save($p);
		my ($key) = new_keys($p, 1);
		$p->{sql} .= "INSERT INTO $p->{table} (id, src) VALUES " . rows($key, $key) . ";\n";
		roll_back_to($p);
	},
	look => sub { my ($p) = @_; $p->{sql} .= "SELECT 'verify ' || v FROM leadroute.verify() v;\n" if $p->{level} eq 'read committed' },
);
my @likely = (('insert') x 6, ('do_nothing') x 3, ('save') x 5, 'block', 'delete', 'release', 'roll_back', 'roll_back', 'fail', 'look');

my %ending = (
	'COMMIT' => sub { return ('COMMIT;', 1) },
	'ROLLBACK' => sub { return ('ROLLBACK;', 0) },
	'COMMIT PREPARED' => sub { return ("PREPARE TRANSACTION '$_[0]'; COMMIT PREPARED '$_[0]';", 1) },
	'ROLLBACK PREPARED' => sub { return ("PREPARE TRANSACTION '$_[0]'; ROLLBACK PREPARED '$_[0]';", 0) },
	'terminate' => sub { return ('SELECT pg_terminate_backend(pg_backend_pid());', 0) },
	'timeout' => sub { return ("SET LOCAL statement_timeout = '5ms'; SELECT pg_sleep(60); ROLLBACK;", 0) },
);

sub program
{
	my ($lane) = @_;
	my $p = { table => pick(@tables), level => $lane->{level}, sql => "BEGIN;\n", present => {}, saved => [], savepoints => 0 };
	my $end = pick('COMMIT', 'COMMIT', 'ROLLBACK', sort keys %ending);
	# an owner that is changed is not for a transaction that will be prepared: that has its own test
	my @steps = (@likely, $end =~ /PREPARED/ ? () : 'owner');
	for (1 .. 3 + int rand 25)
	{
		my $name = pick(@steps);
		$done{$name}++;
		$step{$name}->($p);
	}
	my ($sql, $kept) = $ending{$end}->("$lane->{number} $next_key");
	$p->{present} = {} unless $kept;
	$p->{sql} .= $sql;
	$p->{end} = $end;
	$done{$end}++;
	return $p;
}

# ---- rounds ----------------------------------------------------------------------------------------

my %model = map { $_ => {} } qw(plain root_late);

sub add_to_model
{
	my ($p) = @_;
	(my $whole = $p->{table}) =~ s/_high//;
	$model{$whole}{$_} = 1 for keys %{ $p->{present} };
	return;
}

sub run_round
{
	my @programs = map { program($_) } @lane;
	$lane[$_]{session}->send($programs[$_]{sql}) for 0 .. 2;
	my @wrong;
	for my $i (0 .. 2)
	{
		my ($output, @errors) = $lane[$i]{session}->wait;
		my $p = $programs[$i];
		add_to_model($p);
		my @unexpected = grep { !/^(23505|57014|57P01)$/ } @errors;
		push @wrong, "errors @unexpected: " . $lane[$i]{session}->message if @unexpected;
		push @wrong, map { "within the program: $_" } $output =~ /^(verify (?!\(0,0,0,0,0\)).*)/mg;
		if ($lane[$i]{session}->lost)
		{
			push @wrong, 'lost' if $p->{end} ne 'terminate';
			$checker->query('CALL wait_gone(' . $lane[$i]{session}->pid . ')');
			$lane[$i]{session}->close;
			connect_lane($lane[$i]);
		}
	}
	push @wrong, $checker->query('SELECT problems()') || ();
	for my $table (sort keys %model)
	{
		my $there = $checker->query("SELECT coalesce(string_agg(id::text, ' ' ORDER BY id), '') FROM $table WHERE id NOT IN (1, 5000001)");
		my $expected = join ' ', sort { $a <=> $b } keys %{ $model{$table} };
		push @wrong, "$table has $there, expected $expected" if $there ne $expected;
	}
	return @wrong ? join "\n", @wrong, map { "-- $_->{level}\n$_->{sql}" } @programs : '';
}

connect_lane($_) for @lane;
my ($rounds, $failure) = (0, '');
while ($rounds < soak(60, 3400) && $failure eq '')
{
	$failure = run_round();
	$rounds++;
	next if $rounds % 20;
	# what is deleted stays in the record; without the leads of old rounds the checks stay quick
	$checker->query("DELETE FROM $_ WHERE id NOT IN (1, 5000001)") for keys %model;
	%model = map { $_ => {} } keys %model;
}
ok($failure eq '', "$rounds rounds of three programs") or diag($failure);
figure(%done);

is($checker->query("INSERT INTO plain (src) SELECT 'x' FROM generate_series(1, 60); SELECT unfair(); SELECT problems()"), '', 'the shares of the pool after all that');

done_testing();
