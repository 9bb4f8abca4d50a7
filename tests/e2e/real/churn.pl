# A perl program with a heap that is used: hashes, arrays, strings. Prints a digest. Most of it is long strings: each entry
# of a hash costs several page faults when the hash grows and when it is looked up, and 400,000 of them (8 s with all of
# their memory) were not done in ten minutes with a quarter of it.
use strict;
use warnings;
use Digest::SHA;

my $count = shift;
my ($state, %items, @order) = (99);
sub text_of { return join ' ', ($_[0]) x 150; }
sub next_number { return $state = ($state * 1103515245 + 12345) % 2147483648; }
for my $i (1 .. $count) {
    my $key = next_number() . '-' . next_number();
    $items{$key} = [$i, text_of($key), { left => $i * 2, right => $key }];
    push @order, $key;
}
my $digest = Digest::SHA->new(256);
# One in a hundred: to sort all keys would touch all of the heap at random some ten million times.
my @sorted = sort map { $order[$_ * 100] } 0 .. int($#order / 100);
$digest->add(join "\n", @sorted);
for my $key (@order) {
    my $item = $items{$key};
    die "item $key is wrong\n" if $item->[1] ne text_of($key) or $item->[2]{right} ne $key;
    $digest->add("$key $item->[0] $item->[2]{left}\n");
}
print scalar(keys %items), ' ', $digest->hexdigest, "\n";
