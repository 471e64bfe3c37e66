# No turn leaks and no lead is lost: every shape that a statement inserting leads can have, with every
# ending, into a plain table, a partitioned one and a partition by its own name, each also with a
# trigger that fires after leadroute's, at each isolation level. After each of these cells the record,
# shared memory and the leads must agree. A cell's name says the shape, the way its record is written,
# the table, the level and the ending.
#
# The soak run has every cell. The short run has every shape with every ending on every table, and
# also with every ending at every level, but not each of these on each table.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use LeadrouteTest;
use LeadrouteTest::Leads;
use LeadrouteTest::Shapes;
use Test::More;
use Time::HiRes ();

seed();
my @sources = ('x', 'x', 'rep', 'x', 'capped', 'x', 'wait', 'capped', 'none');
my @levels = ('read committed', 'repeatable read', 'serializable');

my $node = start_node('main', extension => 0);
$node->safe_psql('postgres', 'CREATE ROLE limited');
for my $table (qw(plain plain_late root root_late))
{
	$node->safe_psql('postgres', "CREATE DATABASE template_$table");
	$node->safe_psql("template_$table", leads_sql($table));
}

# For each isolation level a database, a session that inserts and one that looks; the levels run side
# by side.
my @lane = map { { level => $_, checker => undef } } @levels;

sub connect_lane
{
	my ($lane) = @_;
	$lane->{session} = LeadrouteTest::Session->new($node, dbname => $lane->{dbname});
	$lane->{session}->query("SET default_transaction_isolation = '$lane->{level}'");
	return;
}

# Small databases keep the checks quick: each table of the leak table has its own.
sub open_lanes
{
	my ($name) = @_;
	(my $template = "template_$name") =~ s/_high$//;
	for my $lane (@lane)
	{
		($lane->{dbname} = "$name $lane->{level}") =~ tr/ /_/;
		$node->safe_psql('postgres', "CREATE DATABASE $lane->{dbname} TEMPLATE $template");
		$lane->{checker} = LeadrouteTest::Session->new($node, dbname => $lane->{dbname});
		connect_lane($lane);
		$lane->{leads} = $lane->{checker}->query("SELECT count(*) FROM $name");
	}
	return;
}

sub close_lanes
{
	for my $lane (@lane)
	{
		$lane->{$_}->close for qw(session checker);
		$node->safe_psql('postgres', "DROP DATABASE $lane->{dbname}");
	}
	return;
}

# ---- endings: the SQL around a shape's, and whether its leads are kept -----------------------------

sub caught # inline data cannot be executed
{
	my ($sql, $shape) = @_;
	return '' if $shape->{inline};
	my $expected = $shape->{err} // 'UU000';
	return <<"SQL";
DO \$caught\$ BEGIN
    EXECUTE \$x\$ $sql \$x\$;
    RAISE EXCEPTION USING ERRCODE = 'UU000';
EXCEPTION WHEN OTHERS THEN
    IF SQLSTATE <> '$expected' THEN RAISE; END IF;
END \$caught\$;
SQL
}

# What a prepared transaction holds is in memory and not in the record that others see.
my $half_way = "SELECT 'prepared: ' || p FROM problems() p WHERE p !~ '^(pool_state|a transaction)';";
my $number = 0;
sub moment { return $number % 2 ? 'early' : 'late' }

my @endings = (
	{ name => 'autocommit', sql => sub { "$_[0];" }, kept => 1 },
	{ name => 'COMMIT', sql => sub { "BEGIN; $_[0]; COMMIT;" }, kept => 1 },
	{ name => 'ROLLBACK', sql => sub { "BEGIN; $_[0]; ROLLBACK;" } },
	{ name => 'ROLLBACK TO', sql => sub { "BEGIN; SAVEPOINT s; $_[0]; ROLLBACK TO s; COMMIT;" } },
	{ name => 'ROLLBACK TO, again', sql => sub { "BEGIN; SAVEPOINT s; $_[0]; ROLLBACK TO s; $_[0]; COMMIT;" }, kept => 1 },
	{ name => 'RELEASE', sql => sub { "BEGIN; SAVEPOINT s; $_[0]; RELEASE s; COMMIT;" }, kept => 1 },
	{ name => 'RELEASE, ROLLBACK', sql => sub { "BEGIN; SAVEPOINT s; $_[0]; RELEASE s; ROLLBACK;" } },
	{ name => 'caught exception', sql => \&caught },
	{ name => 'error', sql => sub { "BEGIN; $_[0]; SELECT 1 / 0; COMMIT;" }, errors => ['22012'] },
	{ name => 'cancel', errors => ['57014'],
		sql => sub { "BEGIN; SAVEPOINT s; SET LOCAL test.fate = 'cancel @{[moment()]}'; $_[0]; ROLLBACK TO s; COMMIT;" } },
	{ name => 'statement_timeout', errors => ['57014'],
		sql => sub { "BEGIN; SET LOCAL test.fate = 'timeout @{[moment()]}'; SET LOCAL statement_timeout = '10ms'; $_[0]; ROLLBACK;" } },
	{ name => 'terminate', dies => 1,
		sql => sub {
			my $fate = $number % 3 ? "SET LOCAL test.fate = 'die @{[moment()]}';" : '';
			my $die = 'SELECT pg_terminate_backend(pg_backend_pid());';
			return "BEGIN; $fate $_[0]; $die ROLLBACK; $die";
		} },
	{ name => 'PREPARE, COMMIT PREPARED', kept => 1,
		sql => sub { "BEGIN; $_[0]; PREPARE TRANSACTION '$number'; $half_way COMMIT PREPARED '$number';" } },
	{ name => 'PREPARE, ROLLBACK PREPARED',
		sql => sub { "BEGIN; $_[0]; PREPARE TRANSACTION '$number'; $half_way ROLLBACK PREPARED '$number';" } },
);

# Errors that a cell may end with, and one that it must.
sub errors_wrong
{
	my ($shape, $ending, @errors) = @_;
	my %allowed = map { $_ => 1 } @{ $ending->{errors} // [] };
	$allowed{'57P01'} = 1 if $ending->{dies};
	$allowed{$_} = 1 for grep { defined } $shape->{err}, $shape->{commit_err};
	# what follows an error within a transaction
	@allowed{qw(25P02 42704)} = (1, 1) if %allowed;
	my @wrong = grep { !$allowed{$_} } @errors;
	return "errors @wrong" if @wrong;
	return 'no error' if $shape->{err} && !@errors && $ending->{name} ne 'caught exception';
	return '';
}

# ---- cells -----------------------------------------------------------------------------------------

sub start_cell
{
	my ($lane, $shape, $table, $ending) = @_;
	$number++;
	$lane->{first} = $number * 20;
	my $sql = $ending->{sql}->(shape_sql($shape->{sql}, $table, $lane->{first}, $sources[ $number % @sources ]), $shape);
	$lane->{sql} = $sql;
	$lane->{session}->send($sql);
	return;
}

# The cell has ended: has the checker look at what there is now.
sub end_cell
{
	my ($lane, $shape, $table, $ending) = @_;
	my ($output, @errors) = $lane->{session}->wait;
	my $wait = '';
	$lane->{wrong} = errors_wrong($shape, $ending, @errors);
	$lane->{wrong} .= "\n$_" for $output =~ /^(prepared: .*)/mg;
	$lane->{message} = $lane->{session}->message;
	if ($lane->{session}->lost)
	{
		$lane->{wrong} ||= 'connection lost' unless $ending->{dies};
		$wait = 'CALL wait_gone(' . $lane->{session}->pid . ');';
		$lane->{session}->close;
		connect_lane($lane);
	}
	elsif ($ending->{dies})
	{
		$lane->{wrong} ||= 'not terminated';
	}
	my $then = $ending->{kept} && $shape->{then} ? shape_sql($shape->{then}[0], $table, $lane->{first}, '') : '';
	$lane->{checker}->send("$wait SELECT problems(); SELECT 'leads ' || count(*) FROM $table; $then");
	return;
}

sub check_cell
{
	my ($lane, $shape, $ending) = @_;
	my ($got) = $lane->{checker}->wait;
	$lane->{leads} += $shape->{keep} if $ending->{kept} && !$shape->{commit_err};
	my $expected = "leads $lane->{leads}";
	$expected .= "\n$shape->{then}[1]" if $ending->{kept} && $shape->{then};
	return if $lane->{wrong} eq '' && $got eq $expected;
	$lane->{leads} = $1 if $got =~ /^leads (\d+)/m;
	return "$lane->{wrong}\nexpected: $expected\ngot: $got\nmessages: $lane->{message}\nSQL: $lane->{sql}";
}

# run_cells runs one cell in each lane, side by side.
sub run_cells
{
	my ($table, @cells) = @_;
	start_cell($_->{lane}, $_->{shape}, $table, $_->{ending}) for @cells;
	end_cell($_->{lane}, $_->{shape}, $table, $_->{ending}) for @cells;
	for my $cell (@cells)
	{
		my ($lane, $shape, $ending) = @$cell{qw(lane shape ending)};
		my $way = $table =~ /late/ ? 'AFTER' : $shape->{way};
		my $failure = check_cell($lane, $shape, $ending);
		ok(!defined $failure, "$shape->{name} ($way), $table, $lane->{level}, $ending->{name}") or diag($failure);
	}
	return;
}

my $shift = 0; # by which the levels are dealt out: another one for each table

sub run_table
{
	my ($table) = @_;
	my @queue = ([], [], []);
	my $deal = $shift++;
	for my $shape (grep { shape_fits($_, $table) } shapes())
	{
		for my $ending (@endings)
		{
			next if $ending->{name} eq 'caught exception' && $shape->{inline};
			my @chosen = soak(0, 1) ? (0 .. 2) : ($deal++ % 3);
			push @{ $queue[$_] }, { lane => $lane[$_], shape => $shape, ending => $ending } for @chosen;
		}
	}
	while (my @cells = map { shift @$_ // () } @queue)
	{
		run_cells($table, @cells);
	}
	return;
}

# After all that the rotation is where it would be without.
sub check_shares
{
	my ($table) = @_;
	for my $lane (@lane)
	{
		my $wrong = $lane->{checker}->query("INSERT INTO $table (id, src) SELECT " . (2 * HIGH)
			. " + i, 'x' FROM generate_series(1, 60) i; SELECT unfair(); SELECT problems()");
		is($wrong, '', "shares of the pool after the leak table of $table, $lane->{level}");
	}
	return;
}

my $started = Time::HiRes::time();
for my $table (qw(plain root root_high plain_late root_late root_late_high))
{
	open_lanes($table);
	run_table($table);
	check_shares($table);
	close_lanes();
}
figure(cells => $number, seconds => sprintf '%.1f', Time::HiRes::time() - $started);

done_testing();
