# What policies have done with leads, whichever row tells of it.
#
#   told_view($node);    # in the database postgres: the view told(kind, lead_table, lead_id, episode, rep, at)
package LeadrouteTest::Told;

use strict;
use warnings FATAL => 'all';

use Exporter 'import';

our @EXPORT = qw(told_view);

sub told_view
{
	my ($node) = @_;
	$node->safe_psql('postgres', <<'SQL');
CREATE VIEW told AS
SELECT kind, lead_table, lead_id, episode, rep, at FROM leadroute.sla_action
UNION ALL SELECT 'breached', lead_table, lead_id, episode, rep, ended_at FROM leadroute.assignment
WHERE end_reason = 'breached' AND breached_at = ended_at AND tank_at IS NULL
SQL
	return;
}

1;
