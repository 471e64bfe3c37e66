# README.md is true: its ```sql blocks run as written, in order, on a fresh database; what it shows
# in a ```text block right after one is what the server says, but for times and the width of
# columns; and its tables of settings, views and errors are complete.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use IPC::Run;
use LeadrouteTest;
use Test::More;

my $top = "$FindBin::RealBin/../..";
my $readme = slurp("$top/README.md");

# A fixed clock, far from midnight: the caps of a day are shown. And what waits is shown waiting: when
# the worker comes to give it out is not known.
my $node = start_node('main', extension => 0, clock => '2026-03-02 10:00:00');

run_blocks(blocks($readme));
settings_are_listed();
views_are_listed();
errors_are_listed();
done_testing();

# blocks returns the ```sql blocks, each with its line, text and, where shown, output.
sub blocks
{
	my ($text) = @_;
	my @block;
	while ($text =~ /^```sql\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?/msg)
	{
		my ($sql, $output) = ($1, $2);
		my $line = 1 + (substr($text, 0, $-[1]) =~ tr/\n//);
		push @block, { line => $line, sql => $sql, output => $output };
	}
	return @block;
}

# run_blocks feeds all of them to one psql, as a reader would type them.
sub run_blocks
{
	my (@block) = @_;
	cmp_ok(scalar @block, '>', 10, 'README.md has SQL');
	my $script = join '', map { "\\echo leadroute-block $_->{line}\n$_->{sql}" } @block;
	my @psql = ($node->installed_command('psql'), '-X', '-q', '-d', $node->connstr('postgres'));
	my $output;
	IPC::Run::run(\@psql, '<', \$script, '>', \$output, '2>&1') or diag('psql failed');
	my %said = $output =~ /^leadroute-block (\d+)\n(.*?)(?=^leadroute-block|\z)/msg;
	for my $block (@block)
	{
		my $said = $said{ $block->{line} } // '';
		my $name = "README.md line $block->{line}";
		if (defined $block->{output}) { is(plain($said), plain($block->{output}), $name) }
		else { unlike($said, qr/^(?:ERROR|FATAL|WARNING|server closed)/m, $name) }
	}
	return;
}

# plain takes out what differs from run to run, or with the width of what does.
sub plain
{
	my ($text) = @_;
	$text =~ s/\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?[-+]\d\d/<time>/g;
	$text =~ s/[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/<uuid>/g;
	$text =~ s/ *\+?$//mg;
	$text =~ s/ {2,}/ /g;
	$text =~ s/-{2,}/--/g;
	$text =~ s/^ //mg;
	$text =~ s/\n+\z//;
	return $text;
}

sub settings_are_listed
{
	my %listed = $readme =~ /^\| `(leadroute\.\w+)` \| `?([\w.]+)`? \|/mg;
	my $settings = $node->safe_psql('postgres', <<'SQL');
SELECT name || ' ' || boot_val FROM pg_settings WHERE name LIKE 'leadroute.%' ORDER BY name
SQL
	is(join("\n", map { "$_ $listed{$_}" } sort keys %listed), $settings, 'settings and their defaults');
	return;
}

sub views_are_listed
{
	my ($section) = $readme =~ /^### Views\n(.*?)^###? /ms;
	my %listed;
	while ($section =~ /^\| `(\w+)` \| (.*) \|$/mg)
	{
		my ($view, $columns) = ($1, $2);
		$columns =~ s/^[^,]*: (?=\w+,)//; # a remark before the columns
		$columns =~ s/:.*//;              # or after
		$listed{$view} = $columns;
	}
	my $views = $node->safe_psql('postgres', <<'SQL');
SELECT format('%s: %s', c.relname, string_agg(a.attname, ', ' ORDER BY a.attnum))
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
WHERE c.relnamespace = 'leadroute'::regnamespace AND c.relkind = 'v'
GROUP BY c.relname ORDER BY c.relname COLLATE "C"
SQL
	is(join("\n", map { "$_: $listed{$_}" } sort keys %listed), $views, 'views and their columns');
	return;
}

# The codes that the sources raise.
sub errors_are_listed
{
	my %raised;
	for my $file (glob("$top/sql/*.sql"))
	{
		next if $file =~ /--/;
		$raised{$_} = 1 for slurp($file) =~ /'(LR0\d\d)'/g;
	}
	my $errors = slurp("$top/src/pg/errors.h");
	$raised{"LR$1$2$3"} = 1 while $errors =~ /LR_SQLSTATE\('(\d)', '(\d)', '(\d)'\)/g;
	my @missing = grep { $readme !~ /^\| `$_` \|/m } sort keys %raised;
	is("@missing", '', 'errors');
	return;
}

sub slurp
{
	my ($path) = @_;
	open my $in, '<', $path or die "$path: $!";
	local $/;
	return scalar <$in>;
}
