# Salesforce assignment rules as Salesforce evaluates them: an oracle that reads the XML by itself and
# knows nothing of SQL. Records are hashes by field; blank is undef or ''.
package LeadrouteTest::Salesforce;

use strict;
use warnings FATAL => 'all';
use utf8;

use Exporter 'import';

our @EXPORT = qw(read_rules assignee random_rules as_xml);

my %ENTITY = (amp => '&', lt => '<', gt => '>', quot => '"', apos => "'");

# read_rules gives the entries of the active assignment rule: { to, type, criteria => [{ field,
# operation, value }], filter }.
sub read_rules
{
	my ($xml) = @_;
	my @active = grep { _text($_, 'active') eq 'true' } $xml =~ m{<assignmentRule>(.*?)</assignmentRule>}gs;
	die 'not one active assignment rule' if @active != 1;
	return map { _entry($_) } $active[0] =~ m{<ruleEntry>(.*?)</ruleEntry>}gs;
}

sub _entry
{
	my ($xml) = @_;
	my @criteria = map {
		{ field => _text($_, 'field'), operation => _text($_, 'operation'), value => _text($_, 'value') }
	} $xml =~ m{<criteriaItems>(.*?)</criteriaItems>}gs;
	return {
		to => _text($xml, 'assignedTo'),
		type => _text($xml, 'assignedToType'),
		filter => _text($xml, 'booleanFilter'),
		criteria => \@criteria };
}

sub _text
{
	my ($xml, $name) = @_;
	my ($text) = $xml =~ m{<$name>\s*(.*?)\s*</$name>}s;
	$text //= '';
	$text =~ s/&(#?\w+);/$ENTITY{$1} \/\/ die "entity $1"/ge;
	return $text;
}

# assignee tells who gets a record: "type:name", 'nobody' for an entry without one, or '' when no entry
# fits. types: field => text, number, boolean, date, list.
sub assignee
{
	my ($entries, $record, $types) = @_;
	for my $entry (@$entries)
	{
		my @fits = map { _criterion_fits($_, $record->{ $_->{field} }, $types->{ $_->{field} } // 'text') } @{ $entry->{criteria} };
		next unless $entry->{filter} eq '' ? !grep({ !$_ } @fits) : _filter_fits($entry->{filter}, @fits);
		return $entry->{to} eq '' ? 'nobody' : lc($entry->{type}) . ":$entry->{to}";
	}
	return '';
}

# The filter's grammar by replacement: innermost parentheses first, then NOT, AND, OR.
sub _filter_fits
{
	my ($filter, @fits) = @_;
	my $text = lc $filter;
	$text =~ s/(\d+)/$fits[$1 - 1] ? 'T' : 'F'/ge;
	$text =~ s/and/&/g;
	$text =~ s/or/|/g;
	$text =~ s/not/!/g;
	$text =~ s/\s//g;
	while ($text =~ s/\(([^()]*)\)/_flat($1)/e) { }
	return _flat($text) eq 'T';
}

sub _flat
{
	my ($text) = @_;
	1 while $text =~ s/!!// || $text =~ s/!T/F/ || $text =~ s/!F/T/;
	1 while $text =~ s/([TF])&([TF])/$1 eq 'T' && $2 eq 'T' ? 'T' : 'F'/e;
	return $text =~ /T/ ? 'T' : 'F';
}

my %NEGATED = (notEqual => 'equals', notContain => 'contains', excludes => 'includes');

sub _criterion_fits
{
	my ($criterion, $lead, $type) = @_;
	my $operation = $criterion->{operation};
	my $positive = $NEGATED{$operation};
	my $fits = grep { _fits($positive // $operation, $lead, $_, $type) } _values($criterion->{value});
	return defined $positive ? !$fits : !!$fits;
}

# A comma separates, unless in double quotes around a whole value.
sub _values
{
	my ($text) = @_;
	my @values;
	my $rest = "$text,";
	while ($rest ne '')
	{
		if ($rest =~ s/^\s*"((?:[^"]|"")*)"\s*,//) { push @values, $1 =~ s/""/"/gr }
		else { $rest =~ s/^([^,]*),//; push @values, $1 =~ s/^\s+|\s+$//gr }
	}
	return @values;
}

sub _fits
{
	my ($operation, $lead, $value, $type) = @_;
	my $blank = !defined $lead || (ref $lead ? !@$lead : $lead =~ /^ *$/);
	return $blank if $value eq '';
	return $value =~ /^(true|1)$/i ? !$blank && $lead eq 't' : $blank || $lead ne 't' if $type eq 'boolean';
	return 0 if $blank;
	if ($operation eq 'includes' || $type eq 'list')
	{
		my %has = map { lc($_) => 1 } ref $lead ? @$lead : split(/;/, $lead);
		my @wanted = map { lc(s/^\s+|\s+$//gr) } split(/;/, $value);
		return 0 if grep { !$has{$_} } @wanted;
		return $operation eq 'includes' || keys(%has) == keys %{ { map { $_ => 1 } @wanted } };
	}
	($lead, $value) = (lc $lead, lc $value);
	return index($lead, $value) >= 0 if $operation eq 'contains';
	return index($lead, $value) == 0 if $operation eq 'startsWith';
	my $order = $type eq 'number' ? $lead <=> $value : $lead cmp $value;
	return
		$operation eq 'equals' ? $order == 0
	  : $operation eq 'lessThan' ? $order < 0
	  : $operation eq 'lessOrEqual' ? $order <= 0
	  : $operation eq 'greaterThan' ? $order > 0
	  : $operation eq 'greaterOrEqual' ? $order >= 0
	  : die "operation $operation";
}

# random_rules makes entries over fields => { type, values => [ … ] }.
my %OPERATIONS = (
	text => [ qw(equals notEqual lessThan lessOrEqual greaterThan greaterOrEqual contains notContain startsWith includes excludes) ],
	number => [ qw(equals notEqual lessThan lessOrEqual greaterThan greaterOrEqual) ],
	date => [ qw(equals notEqual lessThan lessOrEqual greaterThan greaterOrEqual) ],
	boolean => [ qw(equals notEqual) ],
	list => [ qw(equals notEqual includes excludes) ]);

sub random_rules
{
	my ($fields, $count) = @_;
	my @names = sort keys %$fields;
	return map {
		my @criteria = map { _random_criterion($fields, $names[ rand @names ]) } 1 .. 1 + rand 4;
		{
			to => rand() < 0.1 ? '' : rand() < 0.7 ? 'Queue_' . int(rand 9) : 'user' . int(rand 5) . '@crm.example',
			filter => rand() < 0.5 ? '' : _random_filter(map { $_ + 1 } 0 .. $#criteria),
			criteria => \@criteria }
	} 1 .. $count;
}

sub _random_criterion
{
	my ($fields, $name) = @_;
	my $field = $fields->{$name};
	my @operations = @{ $OPERATIONS{ $field->{type} } };
	my $operation = $operations[ rand @operations ];
	my $blanks = $operation !~ /^(less|greater)/;
	my @values = map { _random_value($field, $operation, $blanks) } 1 .. (rand() < 0.4 ? 1 + rand 4 : 1);
	return { field => $name, operation => $operation, value => join(rand() < 0.5 ? ', ' : ',', @values) };
}

sub _random_value
{
	my ($field, $operation, $blanks) = @_;
	return '' if $blanks && rand() < 0.1;
	my @values = @{ $field->{values} };
	my $value = $values[ rand @values ];
	return $value unless $field->{type} eq 'text' || $field->{type} eq 'list';
	$value .= ";$values[ rand @values ]" if rand() < 0.3 && ($field->{type} eq 'list' || $operation =~ /clude/);
	$value = substr($value, rand(length $value)) || $value if $operation =~ /ontain/ && rand() < 0.5;
	$value = substr($value, 0, 1 + rand length $value) if $operation eq 'startsWith';
	$value = rand() < 0.5 ? uc $value : lc $value if rand() < 0.5;
	$value =~ s/^\s+|\s+$//g;
	$value =~ s/"/""/g if $value =~ /[,"]/;
	return $value =~ /[,"]/ ? qq("$value") : $value;
}

sub _random_filter
{
	my (@numbers) = @_;
	if (@numbers == 1)
	{
		return (rand() < 0.3 ? ('NOT ', 'not ', 'Not NOT not ')[ rand 3 ] : '') . $numbers[0];
	}
	my $cut = 1 + int rand $#numbers;
	my ($left, $right) = (_random_filter(@numbers[ 0 .. $cut - 1 ]), _random_filter(@numbers[ $cut .. $#numbers ]));
	my $joined = join((' AND ', ' OR ', ' and ', ' Or ')[ rand 4 ], $left, $right);
	return rand() < 0.6 ? (rand() < 0.3 ? 'NOT' : '') . "($joined)" : $joined;
}

# as_xml writes entries as a metadata file, with an inactive rule before it.
sub as_xml
{
	my (@entries) = @_;
	my $element = sub {
		my ($name, $text) = @_;
		$text =~ s/([&<>])/'&' . { '&' => 'amp', '<' => 'lt', '>' => 'gt' }->{$1} . ';'/ge;
		return "<$name>$text</$name>\n";
	};
	my $xml = '';
	for my $entry (@entries)
	{
		$xml .= '<ruleEntry>';
		$xml .= $element->('assignedTo', $entry->{to}) . $element->('assignedToType', $entry->{to} =~ /@/ ? 'User' : 'Queue') if $entry->{to} ne '';
		$xml .= $element->('booleanFilter', $entry->{filter}) if $entry->{filter} ne '';
		for my $criterion (@{ $entry->{criteria} })
		{
			my @parts = grep { $_ ne 'value' || $criterion->{value} ne '' || rand() < 0.5 } qw(field operation value);
			$xml .= '<criteriaItems>' . join('', map { $element->($_, $criterion->{$_}) } @parts) . '</criteriaItems>';
		}
		$xml .= "</ruleEntry>\n";
	}
	return qq(<?xml version="1.0" encoding="UTF-8"?>\n<AssignmentRules xmlns="http://soap.sforce.com/2006/04/metadata">)
	  . "<assignmentRule><fullName>Old</fullName><active>false</active><ruleEntry><formula>REGEX(x)</formula></ruleEntry></assignmentRule>"
	  . "<assignmentRule><fullName>Generated</fullName><active>true</active>$xml</assignmentRule></AssignmentRules>";
}

1;
