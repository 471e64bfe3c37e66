# The leak table again, of tenant 42 and beside a busy tenant 43 that has reps, pools and rules of the
# same names and ids in the same lead table: nothing of one crosses over to the other. The short run
# has two of the tables.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use LeadrouteTest;
use LeadrouteTest::LeakTable;
use Test::More;

seed();
my $node = start_node('main', extension => 0);
my @tables = soak(0, 1) ? qw(plain root root_high plain_late root_late root_late_high) : qw(plain root_late);
leak_table($node, $_, tenant => 42, every_level => soak(0, 1)) for @tables;
figure(cells => cells());

done_testing();
