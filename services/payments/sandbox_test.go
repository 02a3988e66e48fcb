package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"github.com/google/uuid"

	"example.com/failwell/shared/platform/money"
	"example.com/failwell/shared/testenv"
)

// buildSandbox puts the program beside the test binary, in the directory that
// go test removes when it is done.
var buildSandbox = sync.OnceValues(func() (string, error) {
	binary := filepath.Join(filepath.Dir(os.Args[0]), "sandbox")
	out, err := exec.Command("go", "build", "-o", binary, "../../scripts/sandbox").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build the sandbox: %w\n%s", err, out)
	}
	return binary, nil
})

// startSandbox runs the outside world as a process of its own on a fresh
// database, and returns its address when it answers.
func startSandbox(t *testing.T) string {
	t.Helper()
	binary, err := buildSandbox()
	if err != nil {
		t.Fatal(err)
	}
	port, release, err := testenv.HoldPort()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	address := fmt.Sprintf("127.0.0.1:%d", port)
	var log bytes.Buffer
	cmd := exec.Command(binary)
	cmd.Stderr = &log
	cmd.Env = []string{
		"HTTP_ADDR=" + address, "DATABASE_URL=" + testenv.Postgres(t, os.DirFS("../../scripts/sandbox")), "PROCESSOR_KEY=" + processorKey, "REPORT_LAG=1ms",
	}
	testenv.Child(cmd) // it does not outlive us, however we die
	started, ended := make(chan error, 1), make(chan struct{})
	go func() {
		runtime.LockOSThread() // its life is tied to the thread
		defer close(ended)
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // it is killed
		}
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); <-ended })
	eventually(t, "the sandbox is ready", func() bool {
		select {
		case <-ended:
			t.Fatalf("the sandbox has ended:\n%s", log.String())
		default:
		}
		response, err := http.Get("http://" + address + "/readyz")
		if err != nil {
			return false
		}
		return response.Body.Close() == nil && response.StatusCode == http.StatusOK
	})
	return "http://" + address
}

// The cards of the sandbox.
const (
	cardWorks     = "4242424242424242"
	cardDeclined  = "4000000000000002"
	cardNoCapture = "4000000000000341"
	cardNoFunds   = "4000000000009995"
)

// order is a payment that can be authorised, with the token of a card.
func (s *shop) order(card string) command {
	s.t.Helper()
	var made struct{ Token string }
	s.ask(http.MethodPost, "/v1/tokens", map[string]string{"card": card}, &made)
	return command{
		OrderID: "ord_" + uuid.NewString(), PaymentID: "pay_" + uuid.NewString(), MerchantID: acme,
		Amount: money.Money{Minor: 12_50, Currency: "GBP"}, PaymentToken: made.Token,
	}
}

// ask makes a call to the sandbox that is not the service's.
func (s *shop) ask(method, path string, in, out any) {
	s.t.Helper()
	body, err := json.Marshal(in)
	if err != nil {
		s.t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(s.t.Context(), method, s.cfg.ProcessorURL+path, bytes.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer "+processorKey)
	response, err := testenv.Client.Do(request)
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close() //nolint:errcheck // nothing was written to it
	answer, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode < 300 {
		err = json.Unmarshal(answer, out)
	}
	if err != nil || response.StatusCode >= 300 {
		s.t.Fatalf("%s %s: %d %s %v", method, path, response.StatusCode, answer, err)
	}
}

// rule is a way in which the sandbox misbehaves; see scripts/sandbox/faults.go.
type rule struct {
	Contract string `json:"contract"`
	Fault    string `json:"fault"`
	Times    int    `json:"times"`
	DelayMS  int    `json:"delay_ms,omitempty"`
	At       string `json:"at,omitempty"`
}

// arm replaces the rules. None: the sandbox behaves.
func (s *shop) arm(rules ...rule) {
	s.t.Helper()
	s.ask(http.MethodPut, "/faults", map[string][]rule{"rules": append([]rule{}, rules...)}, &struct{}{})
}

// struck is how many calls were hit by the rules in force.
func (s *shop) struck() (n int) {
	s.t.Helper()
	var list struct{ Rules []struct{ Struck int } }
	s.ask(http.MethodGet, "/faults", nil, &list)
	for _, r := range list.Rules {
		n += r.Struck
	}
	return n
}

// charges is what the processor has under a payment's reference, by status.
func (s *shop) charges(cmd command) []string {
	s.t.Helper()
	return s.listed("/v1/charges?reference=", cmd, "status")
}

// methods are the payment methods that were redeemed for a payment.
func (s *shop) methods(cmd command) []string {
	s.t.Helper()
	return s.listed("/v1/payment_methods?reference=", cmd, "payment_method")
}

func (s *shop) listed(path string, cmd command, field string) []string {
	s.t.Helper()
	var list struct{ Data []map[string]any }
	s.ask(http.MethodGet, path+url.QueryEscape(cmd.PaymentID), nil, &list)
	found := []string{}
	for _, item := range list.Data {
		found = append(found, fmt.Sprint(item[field]))
	}
	return found
}
