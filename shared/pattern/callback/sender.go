package callback

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// maxHeader bounds the headers of an answer, of which we read one.
const maxHeader = 16 << 10

// sender makes one signed POST.
type sender struct {
	client *http.Client
}

func newSender(allowPrivate bool, timeout time.Duration) sender {
	dialer := &net.Dialer{Timeout: 5 * time.Second}
	if !allowPrivate {
		// Control runs after the name was resolved, with the very address that
		// will be connected to. A check of the name beforehand could be fooled
		// by a name that resolves to something else the second time.
		dialer.Control = func(_, address string, _ syscall.RawConn) error { return publicOnly(address) }
	}
	return sender{client: &http.Client{
		Timeout: timeout,
		Transport: &http.Transport{
			DialContext:         dialer.DialContext,
			TLSHandshakeTimeout: 5 * time.Second,
			MaxIdleConns:        100,
			MaxIdleConnsPerHost: perMerchant, // two, by default: the others would be opened anew for each try
			IdleConnTimeout:     30 * time.Second,
			// Go reads a megabyte of headers. Times atOnce, that is ours to give away.
			MaxResponseHeaderBytes: maxHeader,
			// No Proxy: a proxy would connect for us, past the check above.
		},
		// A redirect could lead anywhere, and a POST that follows one becomes a GET.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// errPrivate: the URL leads into a network that callbacks must not reach.
var errPrivate = errors.New("callback: address is not public")

// publicOnly refuses every address that is not out on the internet: loopback,
// private, link-local (where clouds keep credentials), shared, reserved,
// multicast, and IPv4 in disguise.
func publicOnly(address string) error {
	addrPort, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: %s", errPrivate, address)
	}
	ip := addrPort.Addr().Unmap()
	inside := func(p netip.Prefix) bool { return p.Contains(ip) }
	if !ip.IsGlobalUnicast() || ip.IsPrivate() || slices.ContainsFunc(notPublic, inside) || (ip.Is6() && !inside(public6)) {
		return fmt.Errorf("%w: %s", errPrivate, ip)
	}
	return nil
}

// public6 is all of IPv6 that is given out. Outside are NAT64 (64:ff9b::/96 and
// 64:ff9b:1::/48) and whatever else carries an IPv4 address at its end.
var public6 = netip.MustParsePrefix("2000::/3")

// notPublic is what package netip takes for global and is not.
var notPublic = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),     // this network
	netip.MustParsePrefix("100.64.0.0/10"), // shared by a provider's customers
	netip.MustParsePrefix("192.0.0.0/24"),  // protocol assignments
	netip.MustParsePrefix("198.18.0.0/15"), // benchmarks
	netip.MustParsePrefix("240.0.0.0/4"),   // reserved, used inside some clouds
	netip.MustParsePrefix("2001::/23"),     // protocol assignments, Teredo among them
	netip.MustParsePrefix("2002::/16"),     // 6to4
}

func (s sender) send(ctx context.Context, d claimed) error {
	switch {
	case d.secret == nil:
		return fmt.Errorf("callback: secret of %s: there is no such merchant", d.MerchantID)
	case strings.TrimPrefix(*d.secret, "whsec_") == "":
		return fmt.Errorf("callback: secret of %s: it is empty", d.MerchantID) // and anybody could sign with it
	}
	signer, err := standardwebhooks.NewWebhook(*d.secret)
	if err != nil {
		return fmt.Errorf("callback: secret of %s: %w", d.MerchantID, err)
	}

	id, now := "msg_"+d.ID.String(), time.Now()
	signature, err := signer.Sign(id, now, d.Payload)
	if err != nil {
		return fmt.Errorf("callback: sign: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, d.URL, bytes.NewReader(d.Payload))
	if err != nil {
		return fmt.Errorf("callback: %w", err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set(standardwebhooks.HeaderWebhookID, id)
	request.Header.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(now.Unix(), 10))
	request.Header.Set(standardwebhooks.HeaderWebhookSignature, signature)

	response, err := s.client.Do(request)
	if err != nil {
		return fmt.Errorf("callback: %w", err)
	}
	defer response.Body.Close() //nolint:errcheck // nothing was written to it
	// Read a little, so that the connection can be used again; never all of an
	// endless answer.
	_, _ = io.CopyN(io.Discard, response.Body, 4096)
	return verdict(response)
}

// verdict: 2xx is a success and nothing else is, redirects included.
func verdict(r *http.Response) error {
	if r.StatusCode >= 200 && r.StatusCode < 300 {
		return nil
	}
	if r.StatusCode == http.StatusGone {
		return errGone
	}
	if wait, ok := parseRetryAfter(r.Header.Get("Retry-After")); ok {
		return &retryAfter{status: r.StatusCode, wait: wait}
	}
	return fmt.Errorf("callback: status %d", r.StatusCode)
}

func parseRetryAfter(value string) (time.Duration, bool) {
	if seconds, err := strconv.Atoi(value); err == nil && seconds >= 0 {
		// Bounded before it is multiplied: a number too large would come out negative.
		return time.Duration(min(seconds, int(maxRetryAfter/time.Second))) * time.Second, true
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(0, time.Until(at)), true
	}
	return 0, false
}

// maxError bounds what is kept of an error, in bytes: some of them quote the
// endpoint, and it may say anything at any length.
const maxError = 1024

// sanitise makes an error fit to be logged and stored. PostgreSQL refuses a zero byte
// and half a character, and with them would fail all that is recorded beside them.
func sanitise(err error) string {
	text := err.Error()
	text = text[:min(len(text), maxError)]
	return strings.ReplaceAll(strings.ToValidUTF8(text, "?"), "\x00", "?")
}
