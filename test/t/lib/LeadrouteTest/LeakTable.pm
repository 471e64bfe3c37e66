# The leak table: runs every shape of LeadrouteTest::Shapes with every ending into a table, at each
# isolation level, and checks after each of these cells that record, memory and leads agree.
#
#   leak_table($node, 'plain', …)   as tests, one for each cell
#       tenant => 42                of a tenant, beside a busy one
#       every_level => 1            each cell at each level, not only at one of them
#   cells()                         how many there were
#
# A cell's name says the shape, the way its record is written, the table, the level and the ending.
package LeadrouteTest::LeakTable;

use strict;
use warnings FATAL => 'all';

use Exporter 'import';
use LeadrouteTest;
use LeadrouteTest::Leads;
use LeadrouteTest::Shapes;
use Test::More;

our @EXPORT = qw(leak_table cells);

my @sources = ('x', 'x', 'rep', 'x', 'capped', 'x', 'wait', 'capped', 'none');
my @levels = ('read committed', 'repeatable read', 'serializable');
my ($node, $tenant, $every_level); # of the leak table at hand

# For each isolation level a database, a session that inserts and one that looks; the levels run side
# by side. With a tenant, a third session inserts leads of another tenant all the time.
my @lane = map { { level => $_ } } @levels;
my %template;

sub connect_lane
{
	my ($lane) = @_;
	$lane->{session} = LeadrouteTest::Session->new($node, dbname => $lane->{dbname});
	$lane->{session}->query("SET default_transaction_isolation = '$lane->{level}'");
	return;
}

sub busy_sql
{
	my ($root) = @_;
	return <<"SQL";
DO \$\$ DECLARE i bigint := 4000000; BEGIN
    LOOP
        INSERT INTO $root (tenant, id, src) VALUES (43, i, 'x'), (43, i + 1, 'capped'), (43, i + 2, 'wait');
        IF i % 2 = 0 THEN COMMIT; ELSE ROLLBACK; END IF;
        i := i + 3;
        PERFORM pg_sleep(0.005);
    END LOOP;
END \$\$
SQL
}

sub make_template
{
	my ($root) = @_;
	my $name = "template_$root";
	return $name if $template{"$node $root"}++;
	$node->safe_psql('postgres', 'CREATE ROLE limited') if keys %template == 1;
	$node->safe_psql('postgres', "CREATE DATABASE $name");
	set_tenant($tenant);
	$node->safe_psql($name, leads_sql($root));
	if ($tenant)
	{
		set_tenant(43);
		$node->safe_psql($name, config_sql($root));
		set_tenant($tenant);
	}
	return $name;
}

# Small databases keep the checks quick: each table of the leak table has its own.
sub open_lanes
{
	my ($table) = @_;
	(my $root = $table) =~ s/_high$//;
	my $template = make_template($root);
	for my $lane (@lane)
	{
		($lane->{dbname} = "$table $lane->{level}") =~ tr/ /_/;
		$node->safe_psql('postgres', "CREATE DATABASE $lane->{dbname} TEMPLATE $template");
		$lane->{checker} = LeadrouteTest::Session->new($node, dbname => $lane->{dbname});
		connect_lane($lane);
		$lane->{leads} = $lane->{checker}->query(count_sql($table)) =~ s/leads //r;
		next unless $tenant;
		$lane->{busy} = LeadrouteTest::Session->new($node, dbname => $lane->{dbname}, application => 'busy', timeout => 3600);
		$lane->{busy}->send(busy_sql($root));
	}
	return;
}

sub close_lanes
{
	for my $lane (@lane)
	{
		if ($tenant)
		{
			my $pid = $lane->{busy}->pid;
			$lane->{checker}->query("SELECT pg_terminate_backend($pid); CALL wait_gone($pid)");
			is($lane->{checker}->query('SELECT v FROM leadroute.verify(tenant => 43) v'), '(0,0,0,0,0)', "the busy tenant, $lane->{level}");
			cmp_ok($lane->{checker}->query('SELECT count(*) FROM leadroute.decision WHERE tenant = 43'), '>', 100, 'was busy');
			$lane->{busy}->close;
		}
		$lane->{$_}->close for qw(session checker);
		$node->safe_psql('postgres', "DROP DATABASE $lane->{dbname}");
	}
	return;
}

sub count_sql
{
	my ($table) = @_;
	return "SELECT 'leads ' || count(*) FROM $table" . ($tenant ? " WHERE tenant = $tenant" : '');
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
	$lane->{checker}->send("$wait SELECT problems(); @{[count_sql($table)]}; $then");
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
			my @chosen = $every_level ? (0 .. 2) : ($deal++ % 3);
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

sub cells { return $number }

sub leak_table
{
	my ($on, $table, %opt) = @_;
	$node = $on;
	$tenant = $opt{tenant} // 0;
	$every_level = $opt{every_level};
	open_lanes($table);
	run_table($table);
	check_shares($table);
	close_lanes();
	return;
}

1;
