# LWP::UserAgent of Perl (libwww-perl): one agent a case, with a pool of connections.
use strict;
use warnings;
use Digest::SHA qw(sha256_hex);
use Encode qw(decode encode_utf8 FB_DEFAULT);
use HTTP::Request;
use JSON::PP;
use LWP::UserAgent;

my $pattern = 'abcdefghijklmnopqrstuvwxyz0123456789-';

sub response_of {
    my ($answer) = @_;
    my @fields;
    $answer->headers->scan(sub { push @fields, [lc $_[0], "$_[1]"] });
    my $body = $answer->decoded_content(charset => 'none') // '';
    return {
        status => $answer->code + 0,
        headers => \@fields,
        text => length $body <= 65536 ? decode('UTF-8', my $copy = $body, FB_DEFAULT) : '',
        size => length $body,
        sha256 => sha256_hex($body),
    };
}

sub ask {
    my ($agent, $request) = @_;
    die { cannot => 'does not wait for 100 (Continue)' } if $request->{expect};
    my $asked = HTTP::Request->new($request->{method}, $request->{url});
    # Without the colon, LWP makes a hyphen of each underscore in the name.
    $asked->header(":" . encode_utf8($_->[0]), encode_utf8($_->[1])) for @{ $request->{headers} };
    $asked->header('Accept-Encoding', 'gzip') if $request->{gzip};
    if ($request->{size} >= 0) {
        my $times = int($request->{size} / length $pattern) + 1;
        my $body = substr $pattern x $times, 0, $request->{size};
        $asked->header('Content-Type', 'text/plain');
        if ($request->{chunked}) {
            my $at = 0;
            # Content from a function, of a size that is not told, is sent in chunks.
            $asked->content(sub { my $piece = substr $body, $at, 65536; $at += 65536; $piece });
        }
        else {
            $asked->content($body);
            $asked->header('Content-Length', length $body);
        }
    }
    my ($user, $password) = (encode_utf8($request->{user}), encode_utf8($request->{password}));
    if ($request->{challenge}) {
        my $uri = $asked->uri;
        $agent->credentials($uri->host_port, 'listener', $user, $password);
    }
    elsif (length $user || length $password) {
        $asked->authorization_basic($user, $password);
    }
    $agent->requests_redirectable($request->{follow} ? [qw(GET HEAD POST)] : []);
    my $answer = $agent->request($asked);
    if (($answer->header('Client-Warning') // '') eq 'Internal response') {
        die $answer->decoded_content;
    }
    return response_of($answer);
}

$| = 1;
my $json = JSON::PP->new->utf8->canonical;
my $told = $json->decode(do { local $/; <STDIN> });
for my $case (@{ $told->{cases} }) {
    my $line = { name => $case->{name}, responses => [], error => '', cannot => '' };
    my $agent = LWP::UserAgent->new(keep_alive => 4, timeout => 60, ssl_opts => { SSL_ca_file => $told->{ca} });
    eval { $line->{responses} = [map { ask($agent, $_) } @{ $case->{requests} }]; 1 } or do {
        my $error = $@;
        if (ref $error) { $line->{cannot} = $error->{cannot} }
        else { $line->{error} = "$error" }
    };
    print $json->encode($line), "\n";
}
