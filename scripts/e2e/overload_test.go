package e2e

import (
	"context"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"example.com/failwell/scripts/lab/audit"
	"example.com/failwell/scripts/lab/world"
	"example.com/failwell/scripts/shop"
	"example.com/failwell/scripts/stack"
)

// Twice the load that fits, or more, for a minute, with production's periods. What fits is bounded by the
// processor, which takes a tenth of a second for each call, and by the places for messages
// that wait for it; so it hardly depends on the machine. The system must go on finishing what it
// finished before, turn the rest away, repeat next to nothing, and be quiet a minute later.
func TestOverload_TwiceWhatFitsEndsWithinAMinute(t *testing.T) {
	const (
		measured, overloaded, quiet = 10 * time.Second, time.Minute, time.Minute
		workers, unfinished         = "8", "400" // some 26 orders a second; a quarter of a minute's work
		slow                        = `{"rules":[{"contract":"payment_methods","fault":"delay","delay_ms":100,"times":0},
			{"contract":"charges.create","fault":"delay","delay_ms":100,"times":0},{"contract":"charges.capture","fault":"delay","delay_ms":100,"times":0}]}`
	)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	production := []string{
		"LOG_LEVEL=warn", "SAGA_STEP_TIMEOUT=15m", "SAGA_SWEEP=15s", "RETRY_DELAYS=1s,5s,30s,2m,10m", "OUTBOX_POLL=500ms", "OUTBOX_TAKEOVER=1s",
		"CALLBACK_POLL=1s", "CALLBACK_LEASE=25s", "EVENTS_POLL=1s", "MAX_UNFINISHED_ORDERS=" + unfinished,
	}
	busy, err := world.Start(ctx, stack.Options{
		Out: os.Stderr, IgnoreGiven: true,
		Env: map[string][]string{stack.Orders: production, stack.Payments: append(production, "WORKERS="+workers), stack.Ledger: production},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	truth, customer := busy.Truth, busy.Shop
	if err := customer.Misbehave(ctx, slow); err != nil {
		t.Fatal(err)
	}
	finished := func() (n int) {
		if err := truth.Orders.QueryRow(ctx, `SELECT count(*) FROM orders WHERE status <> 'pending'`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}

	// What fits: so many buyers that each finished order is followed by another.
	var buying sync.WaitGroup
	full, stop := context.WithCancel(ctx)
	for range 32 {
		buying.Go(func() {
			for full.Err() == nil {
				_, _ = customer.Buy(full, shop.CardWorks, mug)
			}
		})
	}
	time.Sleep(measured / 5)
	from := finished()
	time.Sleep(measured)
	fits := float64(finished()-from) / measured.Seconds()
	stop()
	buying.Wait()
	if err := audit.WaitQuiet(ctx, truth); err != nil {
		t.Fatal(err)
	}

	// Twice that, and on a slow machine more: in a minute the unfinished must come to what turns
	// orders away, also when the machine was slower than now while that was measured. A client that is turned away goes.
	rate := max(2*fits, fits+20)
	var accepted, shed, other atomic.Int64
	var placing sync.WaitGroup
	from = finished()
	begun, placed := time.Now(), 0
	for ; time.Since(begun) < overloaded; placed++ {
		time.Sleep(time.Until(begun.Add(time.Duration(float64(placed) / rate * float64(time.Second)))))
		placing.Go(func() {
			token, err := customer.Token(ctx, shop.CardWorks)
			if err != nil {
				other.Add(1)
				return
			}
			switch a, err := customer.Place(ctx, uuid.NewString(), customer.Basket(token, mug)); {
			case err == nil && a.Status == http.StatusAccepted:
				accepted.Add(1)
			case err == nil && a.Status == http.StatusServiceUnavailable && strings.Contains(string(a.Body), "/overloaded") && a.Header.Get("Retry-After") != "":
				shed.Add(1)
			default:
				t.Logf("%s %v", a, err)
				other.Add(1)
			}
		})
	}
	placing.Wait()
	during := float64(finished()-from) / time.Since(begun).Seconds()
	calm := time.Now()
	waiting, done := context.WithTimeout(ctx, quiet)
	defer done()
	if err := audit.WaitQuiet(waiting, truth); err != nil {
		t.Errorf("a minute later: %v", err)
	}
	repeated := metric(ctx, t, customer, busy.System.URL[stack.Orders], "failwell_saga_commands_resent_total")
	t.Logf("%.1f orders a second fit; %d placed in %s: %d accepted, %d turned away, %d neither; %.1f a second finished meanwhile; quiet %s later; %v commands sent again",
		fits, placed, overloaded, accepted.Load(), shed.Load(), other.Load(), during, time.Since(calm).Round(time.Second/10), repeated)
	if shed.Load() == 0 || other.Load() > 0 {
		t.Errorf("%d turned away, %d got another answer", shed.Load(), other.Load())
	}
	if during < 0.7*fits { // it does not collapse; a busy machine is allowed its noise
		t.Errorf("%.1f a second were finished under twice the load, %.1f before", during, fits)
	}
	if repeated > float64(accepted.Load())/100 {
		t.Errorf("%v commands were sent again", repeated)
	}
	allHoldsIn(ctx, t, truth)
}

// metric reads a metric without labels.
func metric(ctx context.Context, t *testing.T, customer *shop.Shop, service, name string) (value float64) {
	t.Helper()
	a, err := customer.Get(ctx, service+"/metrics")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(a.Body)) {
		if text, ok := strings.CutPrefix(line, name+" "); ok {
			if value, err = strconv.ParseFloat(strings.TrimSpace(text), 64); err != nil {
				t.Fatal(err)
			}
			return value
		}
	}
	t.Fatalf("no %s", name)
	return 0
}
