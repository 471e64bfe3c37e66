# Holds the two regimes of the sources apart: regimes.pl FILE ...
#
# src/pg may raise the server's errors, which jump over every C++ frame on the way: there must be
# nothing in them that waits to be destroyed or caught. src/core may use C++ but no heap, no
# exception and nothing of the server. Comments and strings are not code and are not looked at.
use strict;
use warnings FATAL => 'all';

my %law = (
	pg => [
		[ qr/\bstd\s*::/, 'std::' ],
		[ qr/\bnew\b/, 'new' ],
		[ qr/(?<!=)\s\bdelete\b/, 'delete' ],
		[ qr/\b(?:throw|try|catch)\b/, 'a C++ exception' ],
		[ qr/\bthread_local\b/, 'thread_local' ],
		[ qr/^\s*#\s*include\s*<(?!\w+(?:\/\w+)*\.h>)/, 'a header of the C++ library' ],
	],
	core => [
		[ qr/^\s*#\s*include\s*<(?!c?[a-z_]+>)/, 'an include that is not of the C++ library' ],
		[ qr/^\s*#\s*include\s*"(?:\.\.|pg|postgres|utils|access|catalog|executor|storage)/, 'an include from outside the core' ],
		[ qr/\b(?:ereport|elog|palloc0?|pfree|Datum|Oid|LWLock\w*|MemoryContext\w*)\b/, "the server's API" ],
		[ qr/\b(?:throw|try|catch)\b/, 'a C++ exception' ],
		[ qr/\bnew\b|\b(?:malloc|calloc|realloc|free)\s*\(/, 'the heap' ],
		[ qr/\bstd\s*::\s*(?:vector|string|map|set|unordered_\w+|deque|list|function|unique_ptr|shared_ptr)\b/, 'the heap' ],
		[ qr/\bstd\s*::\s*(?:mutex|thread|lock_guard|cout|cerr)\b|\bthread_local\b/, 'threads or streams' ],
	]);

my $found = 0;
for my $file (grep { /\.(?:cpp|h)$/ } @ARGV)
{
	my ($regime) = $file =~ m{src/(pg|core)/} or next;
	my $number = 0;
	for my $line (split /\n/, code_of($file))
	{
		$number++;
		for my $ban (@{ $law{$regime} })
		{
			next unless $line =~ $ban->[0];
			print "$file:$number: $ban->[1] is not for src/$regime\n";
			$found++;
		}
	}
}
exit($found ? 1 : 0);

# code_of reads a file without comments and the text of strings; lines keep their numbers.
sub code_of
{
	my ($file) = @_;
	open my $in, '<', $file or die "$file: $!\n";
	my $text = do { local $/; <$in> };
	$text =~ s{(//[^\n]*|/\*.*?\*/)|(^\s*\#\s*include[^\n]*)|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'}
		{ defined $1 ? blank($1) : defined $2 ? $2 : '""' }gsemx;
	return $text;
}

sub blank
{
	my ($comment) = @_;
	return ' ' . "\n" x ($comment =~ tr/\n//);
}
