package stack

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// Network lies between the processes: every connection to the database, to the
// broker, to the outside world and from service to service passes through it, and
// can be cut, delayed and throttled.
type Network struct {
	server  *toxiproxy.ApiServer
	proxies map[string]*toxiproxy.Proxy
}

// Links are the names of what can be reached through the network.
var Links = []string{"postgres", "rabbitmq", Sandbox, Ledger, Payments}

// BrokerLink is the name of the link over which one process alone reaches the broker;
// see Options.BrokerLinks.
func BrokerLink(process string) string { return "rabbitmq of " + process }

func newNetwork() *Network {
	zerolog.SetGlobalLevel(zerolog.Disabled) // its toxics log to a global of their own
	return &Network{
		server:  toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop()),
		proxies: map[string]*toxiproxy.Proxy{},
	}
}

// through opens a way to the host of an address, and returns the address through it.
func (n *Network) through(link, address string) (string, error) {
	u, err := url.Parse(address)
	if err != nil {
		return "", err
	}
	proxy := toxiproxy.NewProxy(n.server, link, "127.0.0.1:0", u.Host)
	if err := proxy.Start(); err != nil {
		return "", fmt.Errorf("network: %s: %w", link, err)
	}
	n.proxies[link] = proxy
	u.Host = proxy.Listen
	return u.String(), nil
}

// Cut breaks every connection of a link and lets no new one through.
func (n *Network) Cut(link string) { n.proxies[link].Stop() }

// Heal lets connections through again, quick and whole.
func (n *Network) Heal(ctx context.Context, link string) error {
	n.proxies[link].Toxics.ResetToxics(ctx)
	if n.proxies[link].Enabled {
		return nil
	}
	return n.proxies[link].Start()
}

// Delay makes everything on a link late, each way, by milliseconds give or take a half.
func (n *Network) Delay(link string, milliseconds int) error {
	return n.add(link, "latency", fmt.Sprintf(`{"latency":%d,"jitter":%d}`, milliseconds, milliseconds/2))
}

// Throttle lets so many kilobytes a second through, each way.
func (n *Network) Throttle(link string, kilobytes int) error {
	return n.add(link, "bandwidth", fmt.Sprintf(`{"rate":%d}`, kilobytes))
}

// add puts a toxic on both directions: by itself one lies only on the answers.
func (n *Network) add(link, kind, attributes string) error {
	for _, stream := range []string{"downstream", "upstream"} {
		toxic := fmt.Sprintf(`{"type":%q,"stream":%q,"attributes":%s}`, kind, stream, attributes)
		if _, err := n.proxies[link].Toxics.AddToxicJson(strings.NewReader(toxic)); err != nil {
			return err
		}
	}
	return nil
}

func (n *Network) close() {
	for _, proxy := range n.proxies {
		proxy.Stop()
	}
}
