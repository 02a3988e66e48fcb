package e2e

import (
	"context"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/uuid"
)

// ops runs the command as an operator would.
func ops(ctx context.Context, t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(ctx, "go", append([]string{"run", "./scripts/ops"}, args...)...)
	cmd.Dir, cmd.Env = "../..", os.Environ()
	for _, name := range []string{"POSTGRES_URL", "PAYMENTS_URL", "SERVICE_KEY", "AMQP_URL"} {
		cmd.Env = append(cmd.Env, name+"="+system.Env()[name])
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("ops %v: %v\n%s", args, err, out)
	}
	return string(out)
}

// The outcome of a payout is unknown; a person asks the bank and says what it has
// said. Books and bank agree with it afterwards: it is gone, or it is the merchant's again.
func TestResolvePayout_EndsAnUnknownPayoutAsTheBankSays(t *testing.T) {
	ctx := limit(t)
	for mishap, outcome := range map[string]string{"fail_before": "failed", "lose_answer": "sent"} {
		request := payable(ctx, t)
		allHolds(ctx, t) // nothing else is on its way to the account
		before := available(ctx, t)
		misbehave(ctx, t, `{"rules":[{"contract":"bank.transfers","fault":"`+mishap+`","times":1}]}`)
		if status, p, body := payout(ctx, t, request, uuid.NewString()); status != http.StatusAccepted || p.Status != "unknown" {
			t.Fatalf("%s: status %d: %s", mishap, status, body)
		} else if listed := ops(ctx, t, "payouts", "list"); !strings.Contains(listed, p.ID) {
			t.Errorf("%s is not listed:\n%s", p.ID, listed)
		} else if said := ops(ctx, t, "payouts", "resolve", p.ID, outcome); !strings.Contains(said, outcome) {
			t.Errorf("resolve said %s", said)
		} else {
			operator := *acme
			operator.Key = system.Env()["SERVICE_KEY"]
			again, err := operator.Post(ctx, acme.Payments+"/v1/payouts/"+p.ID+"/resolve", "", []byte(`{"outcome":"`+outcome+`"}`))
			if err != nil || again.Status != http.StatusOK {
				t.Errorf("once more: %d %s, %v", again.Status, again.Body, err)
			}
			shown, err := acme.Get(ctx, acme.Payments+"/v1/payouts/"+p.ID)
			if err != nil || !strings.Contains(string(shown.Body), `"status":"`+outcome+`"`) {
				t.Errorf("shown as %s, %v", shown.Body, err)
			}
		}
		allHolds(ctx, t)
		want := map[string]int64{"failed": before, "sent": before - 100}[outcome]
		if after := available(ctx, t); after != want {
			t.Errorf("%s: available before %d, after %d, want %d", outcome, before, after, want)
		}
	}
}
