package callback

import (
	"errors"
	"strings"
	"testing"
)

// A merchant chooses the URL. It must not make us call what only we can reach:
// our own services, or the address from which a cloud hands out its credentials.
func TestPublicOnly_RefusesPrivateAddresses(t *testing.T) {
	t.Parallel()
	for what, addresses := range map[string][]string{
		"loopback":             {"127.0.0.1:80", "127.8.9.10:443", "[::1]:80"},
		"this host":            {"0.0.0.0:80", "0.1.2.3:80", "[::]:80"},
		"private":              {"10.0.0.1:80", "172.16.0.1:80", "172.31.255.255:80", "192.168.1.1:443", "[fc00::1]:80", "[fd00:ec2::254]:80"},
		"link-local":           {"169.254.169.254:80", "[fe80::1]:80", "[fe80::1%eth0]:80"},
		"site-local":           {"[fec0::1]:80"},
		"shared by a provider": {"100.64.0.1:80", "100.100.100.200:80", "100.127.255.255:80"},
		"protocol assignments": {"192.0.0.192:80"},
		"benchmarks":           {"198.18.0.1:80", "198.19.255.255:80"},
		"reserved":             {"240.0.0.1:80", "255.255.255.255:80"},
		"multicast":            {"224.0.0.1:80", "239.255.255.255:80", "[ff02::1]:80", "[ff0e::1]:80"},
		"mapped IPv4":          {"[::ffff:127.0.0.1]:80", "[::ffff:10.0.0.1]:80", "[::ffff:169.254.169.254]:80", "[::ffff:a9fe:a9fe%eth0]:80"},
		"compatible IPv4":      {"[::127.0.0.1]:80", "[::a00:1]:80"},
		"translated IPv4":      {"[64:ff9b::7f00:1]:80", "[64:ff9b::10.0.0.1]:80", "[64:ff9b::a9fe:a9fe%eth0]:80", "[64:ff9b:1::a00:1]:80"},
		"tunnelled IPv4":       {"[2002:a00:1::1]:80", "[2001:0:a00:1::1]:80", "[2002:a00:1::1%eth0]:80"},
		"no address":           {"", "localhost:80", "127.0.0.1", "example.com:443", "1.1.1.1"},
	} {
		for _, address := range addresses {
			if err := publicOnly(address); !errors.Is(err, errPrivate) {
				t.Errorf("%s: %q: %v", what, address, err)
			}
		}
	}
}

func TestPublicOnly_AllowsPublicAddresses(t *testing.T) {
	t.Parallel()
	for _, address := range []string{
		"1.1.1.1:443", "9.255.255.255:80", "11.0.0.0:80", "100.63.255.255:80", "100.128.0.0:80", "126.0.0.1:80", "128.0.0.1:80",
		"172.15.255.255:80", "172.32.0.0:80", "192.0.1.1:80", "192.167.0.1:80", "192.169.0.1:80", "198.17.0.1:80", "198.20.0.1:80", "223.255.255.1:8443",
		"[2606:4700:4700::1111]:443", "[2a00:1450:4001::1]:443", "[::ffff:1.1.1.1]:443",
	} {
		if err := publicOnly(address); err != nil {
			t.Errorf("%s: %v", address, err)
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
