# No turn leaks and no lead is lost: every shape that a statement inserting leads can have, with every
# ending, into a plain table, a partitioned one and a partition by its own name, each also with a
# trigger that fires after leadroute's, at each isolation level. After each of these cells the record,
# shared memory and the leads must agree.
#
# The soak run has every cell. The short run has every shape with every ending on every table, and
# also with every ending at every level, but not each of these on each table.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use LeadrouteTest;
use LeadrouteTest::LeakTable;
use Test::More;
use Time::HiRes ();

seed();
my $node = start_node('main', extension => 0);
my $started = Time::HiRes::time();
leak_table($node, $_, every_level => soak(0, 1)) for qw(plain root root_high plain_late root_late root_late_high);
figure(cells => cells(), seconds => sprintf '%.1f', Time::HiRes::time() - $started);

done_testing();
