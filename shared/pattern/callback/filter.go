package callback

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"syscall"

	"code.dny.dev/ssrf"
)

// Filter says where callbacks may go. A merchant chooses the URL, so it must not lead to
// what only we can reach: our own services, or the address from which a cloud hands out
// its credentials.
type Filter struct {
	// Allow is what may be reached although it is not on the internet, at any port and
	// without TLS: the loopback addresses of a lab. nil: nothing.
	Allow []netip.Prefix

	// Deny is what may not be reached although it is: the public addresses of our own
	// network. nil: nothing.
	Deny []netip.Prefix
}

// ErrRefused means: callbacks do not go there.
var ErrRefused = errors.New("callback: this address is refused")

// internet takes what is out on the internet, at the ports of https.
var internet = ssrf.New(ssrf.WithPorts(443, 8443))

// metadata is what the registries know as public, and a cloud keeps for itself.
var metadata = netip.MustParsePrefix("168.63.129.16/32") // Azure

// CheckURL checks the form of a URL. Where its name leads is checked at each try, because
// it may lead somewhere else by then.
func (f Filter) CheckURL(raw string) error {
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Hostname() == "" || u.Scheme != "https" && u.Scheme != "http":
		return errors.New("must be an absolute https URL")
	case u.User != nil:
		return errors.New("must not carry a user name or password")
	case len(f.Allow) > 0: // a lab has no certificates
		return nil
	case u.Scheme != "https":
		return errors.New("must be https")
	case u.Port() != "" && u.Port() != "443" && u.Port() != "8443":
		return errors.New("must lead to port 443 or 8443")
	}
	return nil
}

// check refuses an address that a name was resolved to, with its port. It is the Control
// of a dialer, which runs before the connection is made, with the very address: a check of
// the name beforehand could be fooled by a name that resolves to something else the second
// time.
//
// What is not out on the internet is IANA's to say, in its registries of special-purpose
// addresses, and changes; so the list is a library's. An IPv4 address in the disguise of
// an IPv6 one is taken for what it is.
func (f Filter) check(network, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: %s", ErrRefused, address)
	}
	ip := to.Addr().Unmap().WithZone("")
	inside := func(p netip.Prefix) bool { return p.Contains(ip) }
	switch {
	case slices.ContainsFunc(f.Allow, inside):
		return nil
	case slices.ContainsFunc(f.Deny, inside), inside(metadata), isOurs(ip):
		return fmt.Errorf("%w: %s", ErrRefused, ip)
	}
	if err := internet.SafeAddrPort(netip.AddrPortFrom(ip, to.Port())); err != nil {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return nil
}

// interfaceAddrs is exchanged by a test, whose machine has no public address.
var interfaceAddrs = net.InterfaceAddrs

// isOurs tells whether an address is one of this machine's: it may be a public one.
func isOurs(ip netip.Addr) bool {
	addresses, err := interfaceAddrs()
	return err != nil || slices.ContainsFunc(addresses, func(a net.Addr) bool {
		prefix, err := netip.ParsePrefix(a.String())
		return err == nil && prefix.Addr().Unmap() == ip
	})
}
