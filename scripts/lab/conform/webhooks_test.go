package conform

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

const secret = "whsec_ZmFpbHdlbGwtbGFiLWFjbWUtd2ViaG9vay1zZWNyZXQ="

func isNotJudged(err error) bool { return errors.Is(err, ErrNotJudged) }

func verifier(t *testing.T, secret string) *standardwebhooks.Webhook {
	t.Helper()
	v, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// receiver takes webhooks as the standard wants it, with one bug.
func receiver(t *testing.T, bug string) http.Handler {
	ours, test := verifier(t, secret), verifier(t, anotherSecret)
	var mu sync.Mutex
	seen := map[string]bool{}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		body, _ := io.ReadAll(r.Body)
		signature := r.Header.Get("webhook-signature")
		seconds, _ := strconv.ParseInt(r.Header.Get("webhook-timestamp"), 10, 64)
		old := time.Since(time.Unix(seconds, 0)) > 0
		ok := ours.Verify(body, r.Header) == nil
		switch bug {
		case "fails when it has just started":
			ok = ok && len(seen) > 0
			seen["started"] = true
		case "calls a duplicate an error":
			ok = ok && !seen[r.Header.Get("webhook-id")]
			seen[r.Header.Get("webhook-id")] = true
		case "verifies only what is signed":
			ok = ok || signature == ""
		case "looks whether there is a signature":
			ok = strings.HasPrefix(signature, "v1,")
		case "has a secret for tests, too":
			ok = ok || test.Verify(body, r.Header) == nil
		case "reads the body and writes it again":
			ok = ok || ours.Verify(bytes.TrimSpace(body), r.Header) == nil
		case "does not look at the time":
			ok = ours.VerifyIgnoringTimestamp(body, r.Header) == nil
		case "looks for what is too old only":
			ok = ok || !old && ours.VerifyIgnoringTimestamp(body, r.Header) == nil
		case "looks for what is too new only":
			ok = ok || old && ours.VerifyIgnoringTimestamp(body, r.Header) == nil
		case "takes the first signature":
			ok = ok && !strings.Contains(signature, " ")
		}
		if !ok {
			w.WriteHeader(http.StatusUnauthorized)
		}
	})
}

func TestReceiverCases_EachCanFail(t *testing.T) {
	t.Parallel()
	everyCaseCanFail(t, Receiver, map[string][]string{
		"none":                               nil,
		"fails when it has just started":     {"valid"},
		"calls a duplicate an error":         {"duplicate"},
		"verifies only what is signed":       {"no-signature"},
		"looks whether there is a signature": {"wrong-key", "tampered-body", "tampered-id", "tampered-timestamp", "too-old", "from-the-future"},
		"has a secret for tests, too":        {"wrong-key"},
		"reads the body and writes it again": {"tampered-body"},
		"does not look at the time":          {"too-old", "from-the-future"},
		"looks for what is too old only":     {"from-the-future"},
		"looks for what is too new only":     {"too-old"},
		"takes the first signature":          {"several-signatures"},
	}, func(bug string) []string {
		server := httptest.NewServer(receiver(t, bug))
		defer server.Close()
		return red(t, bug, &Target{URL: server.URL, Secret: secret, Body: func(context.Context) ([]byte, error) {
			return []byte(`{"type":"tea.made"}`), nil
		}}, Receiver)
	})
}

// sender sends one webhook until it is taken, as the standard wants it, with one bug.
type sender struct {
	bug    string
	client *http.Client
	signer *standardwebhooks.Webhook
}

func (s sender) send(ctx context.Context, url string) {
	id, signed := "msg_1", time.Now()
	for try := 1; ctx.Err() == nil; try++ {
		if s.bug != "signs once" {
			signed = time.Now()
		}
		if s.bug == "gives each try its own id" {
			id = "msg_" + strconv.Itoa(try)
		}
		response, err := s.post(ctx, url, id, signed)
		if err != nil {
			return
		}
		_ = response.Body.Close()
		if response.StatusCode < 300 || s.bug == "tries once" || response.StatusCode < 400 && s.bug == "takes a redirect for a success" {
			return
		}
		seconds, _ := strconv.Atoi(response.Header.Get("Retry-After"))
		time.Sleep(time.Duration(seconds)*time.Second + 50*time.Millisecond)
	}
}

func (s sender) post(ctx context.Context, url, id string, at time.Time) (*http.Response, error) {
	body := []byte(`{"type":"tea.made"}`)
	signature, err := s.signer.Sign(id, at, body)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json; charset=utf-8")
	if s.bug == "sends forms" {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	request.Header.Set("webhook-id", id)
	request.Header.Set("webhook-timestamp", strconv.FormatInt(at.Unix(), 10))
	if s.bug != "does not sign" {
		request.Header.Set("webhook-signature", signature)
	}
	return s.client.Do(request)
}

func TestSenderCases_EachCanFail(t *testing.T) {
	t.Parallel()
	everyCaseCanFail(t, Sender, map[string][]string{
		"none":                           nil,
		"sends forms":                    {"signed"},
		"does not sign":                  {"signed", "retried"},
		"signs once":                     {"retried"},
		"gives each try its own id":      {"retried"},
		"tries once":                     {"retried", "redirect-is-a-failure"},
		"takes a redirect for a success": {"redirect-is-a-failure"},
		"follows a redirect":             {"redirect-is-a-failure"},
	}, func(bug string) []string {
		s := sender{bug: bug, client: &http.Client{}, signer: verifier(t, secret)}
		if bug != "follows a redirect" {
			s.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		}
		return red(t, bug, &Target{Secret: secret, Listen: "127.0.0.1:0", Patience: 4500 * time.Millisecond, Trigger: func(ctx context.Context, url string) error {
			go s.send(ctx, url)
			return nil
		}}, Sender)
	})
}
