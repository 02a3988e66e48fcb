package callback

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
)

// The registries of special-purpose addresses as IANA publishes them, both of them whole.
var specialPurpose = []string{
	"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24",
	"192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24",
	"203.0.113.0/24", "240.0.0.0/4", "255.255.255.255/32",
	"::/128", "::1/128", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "100:0:0:1::/64", "2001::/23", "2001:db8::/32", "2002::/16",
	"2620:4f:8000::/48", "3fff::/20", "5f00::/16", "fc00::/7", "fe80::/10",
}

// lastOf is the last address of a prefix.
func lastOf(p netip.Prefix) netip.Addr {
	bytes := p.Masked().Addr().AsSlice()
	for bit := p.Bits(); bit < len(bytes)*8; bit++ {
		bytes[bit/8] |= 1 << (7 - bit%8)
	}
	last, _ := netip.AddrFromSlice(bytes)
	return last
}

func refuses(t *testing.T, f Filter, what, address string) {
	t.Helper()
	if err := f.check("tcp", address, nil); !errors.Is(err, ErrRefused) {
		t.Errorf("%s: %q: %v", what, address, err)
	}
}

// Nothing is sent by these tests: they ask the filter, and no request leaves the machine.
func TestFilter_RefusesWhatIsNotOnTheInternet(t *testing.T) {
	t.Parallel()
	for _, text := range specialPurpose {
		p := netip.MustParsePrefix(text)
		for _, ip := range []netip.Addr{p.Addr(), lastOf(p)} {
			refuses(t, Filter{}, text, netip.AddrPortFrom(ip, 443).String())
		}
	}
	for what, addresses := range map[string][]string{
		"metadata of a cloud": {"169.254.169.254:443", "168.63.129.16:443", "100.100.100.200:443", "192.0.0.192:443", "[fd00:ec2::254]:443", "[fd20:ce::254]:443"},
		"site-local":          {"[fec0::1]:443"},
		"multicast":           {"224.0.0.1:443", "239.255.255.255:443", "[ff02::1]:443", "[ff0e::1]:443"},
		"mapped IPv4":         {"[::ffff:127.0.0.1]:443", "[::ffff:10.0.0.1]:443", "[::ffff:168.63.129.16]:443", "[::ffff:a9fe:a9fe%eth0]:443"},
		"compatible IPv4":     {"[::127.0.0.1]:443", "[::a00:1]:443"},
		"translated IPv4":     {"[64:ff9b::7f00:1]:443", "[64:ff9b::a9fe:a9fe%eth0]:443", "[64:ff9b:1::a00:1]:443"},
		"tunnelled IPv4":      {"[2002:a00:1::1]:443", "[2001:0:a00:1::1]:443", "[2002:a00:1::1%eth0]:443"},
		"another port":        {"1.1.1.1:80", "1.1.1.1:22", "1.1.1.1:5432", "[2606:4700:4700::1111]:80"},
		"no address":          {"", "localhost:443", "127.0.0.1", "example.com:443", "1.1.1.1"},
	} {
		for _, address := range addresses {
			refuses(t, Filter{}, what, address)
		}
	}
}

func TestFilter_AllowsWhatIsOnTheInternet(t *testing.T) {
	t.Parallel()
	for _, address := range []string{
		"1.1.1.1:443", "9.255.255.255:443", "11.0.0.0:443", "100.63.255.255:8443", "100.128.0.0:443", "126.0.0.1:443", "128.0.0.1:443",
		"172.15.255.255:443", "172.32.0.0:443", "192.0.1.1:443", "192.167.0.1:443", "192.169.0.1:443", "198.17.0.1:443", "198.20.0.1:443", "223.255.255.1:8443",
		"[2606:4700:4700::1111]:443", "[2a00:1450:4001::1]:443", "[::ffff:1.1.1.1]:443",
	} {
		if err := (Filter{}).check("tcp", address, nil); err != nil {
			t.Errorf("%s: %v", address, err)
		}
	}
}

func TestFilter_RefusesAndAllowsWhatTheOperatorSays(t *testing.T) {
	t.Parallel()
	f := Filter{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Deny: []netip.Prefix{netip.MustParsePrefix("1.1.1.0/24")}}
	if err := f.check("tcp", "127.0.0.1:8080", nil); err != nil {
		t.Error(err)
	}
	refuses(t, f, "denied", "1.1.1.1:443")
	refuses(t, f, "denied in disguise", "[::ffff:1.1.1.1]:443")
	refuses(t, f, "private, in a lab of loopback", "10.0.0.1:443")
}

// The machine has a public address: a service of its own listens there, behind no gateway.
// Not parallel, because the addresses are those of all filters.
func TestFilter_RefusesThePublicAddressOfThisMachine(t *testing.T) {
	defer func() { interfaceAddrs = net.InterfaceAddrs }()
	interfaceAddrs = func() ([]net.Addr, error) {
		return []net.Addr{&net.IPNet{IP: net.IPv4(1, 1, 1, 1), Mask: net.CIDRMask(24, 32)}}, nil
	}
	refuses(t, Filter{}, "ours", "1.1.1.1:443")
	if err := (Filter{}).check("tcp", "1.1.1.2:443", nil); err != nil {
		t.Errorf("a neighbour's: %v", err)
	}
}

func TestFilter_TakesHTTPSURLsOfTheUsualPorts(t *testing.T) {
	t.Parallel()
	lab := Filter{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
	for url, ok := range map[string][2]bool{ // by default, in a lab
		"https://shop.example/hooks": {true, true}, "https://shop.example:443/": {true, true}, "https://shop.example:8443/": {true, true},
		"http://shop.example/": {false, true}, "https://shop.example:22/": {false, true}, "http://shop.example:8443/": {false, true},
		"https://u:p@shop.example/": {false, false}, "ftp://shop.example/": {false, false}, "https://": {false, false}, "https://:443/": {false, false}, "/hooks": {false, false},
	} {
		if got := [2]bool{(Filter{}).CheckURL(url) == nil, lab.CheckURL(url) == nil}; got != ok {
			t.Errorf("%s: %v, want %v", url, got, ok)
		}
	}
}

// An error may quote the endpoint. What PostgreSQL refuses in it would fail the
// transaction in which everybody's outcomes are recorded, over and over.
func TestSanitise_MakesErrorTextStorable(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"plain":                        "plain",
		"zero\x00byte":                 "zero?byte",
		"half a \xc3":                  "half a ?",
		strings.Repeat("é", 600):       strings.Repeat("é", 512),
		"x" + strings.Repeat("é", 600): "x" + strings.Repeat("é", 511) + "?", // cut through the middle of one
	} {
		if got := sanitise(errors.New(text)); got != want {
			t.Errorf("%.20q…: %d bytes, %q", text, len(got), got)
		}
	}
}
