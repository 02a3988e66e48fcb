// Package browser tests the live page in a real browser, on the real system. It is
// among the long tests: it needs Chromium, which scripts/deps.sh chromium installs.
package browser

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/jackc/pgx/v5"

	"example.com/failwell/scripts/live"
	"example.com/failwell/scripts/stack"
)

var (
	system *stack.Stack
	page   string
)

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "browser:", err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (int, error) {
	root, err := stack.ModuleRoot()
	if err != nil {
		return 1, err
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	if out, err := exec.CommandContext(ctx, filepath.Join(root, "scripts", "deps.sh"), "chromium").CombinedOutput(); err != nil {
		return 1, fmt.Errorf("no Chromium: %w: %s", err, out)
	}
	p := live.New()
	if system, err = stack.Start(ctx, stack.Options{Out: os.Stderr, IgnoreGiven: true, LogicalDecoding: true, Lives: p.Life}); err != nil {
		return 1, err
	}
	defer system.Close()
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 1, err
	}
	page = "http://" + listener.Addr().String()
	served := make(chan error, 1)
	go func() {
		served <- p.Serve(ctx, listener, live.System{
			Env: system.Env(), RabbitAPI: system.Servers.RabbitAPI, Root: root, Signal: system.Signal, Pid: system.Pid,
		})
	}()
	code := m.Run()
	stop()
	return code, <-served
}

// visitor is a person at the browser.
type visitor struct {
	*testing.T
	ctx context.Context //nolint:containedctx // the tab; it ends with the test
}

func visit(t *testing.T, width int64) visitor {
	t.Helper()
	for _, service := range []string{"ORDERS_URL", "PAYMENTS_URL", "LEDGER_URL"} { // the test before may have killed one
		awaitReady(t, system.Env()[service]+"/readyz")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	ctx, end := chromedp.NewExecAllocator(ctx, append(chromedp.DefaultExecAllocatorOptions[:], chromedp.NoSandbox)...) // we are root in a container
	ctx, closeTab := chromedp.NewContext(ctx)
	t.Cleanup(func() { closeTab(); end(); cancel() })
	v := visitor{t, ctx}
	v.do(chromedp.EmulateViewport(width, 1000), chromedp.Navigate(page))
	v.until(`document.querySelector("#sources").textContent === "recording"`)
	v.until(`document.forms.arm.elements.service.value !== ""`) // the fault points are there
	return v
}

func awaitReady(t *testing.T, url string) {
	t.Helper()
	for begun := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		resp, err := http.Get(url) //nolint:gosec // a service of ours
		if err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		if time.Since(begun) > time.Minute {
			t.Fatalf("%s: not ready: %v", url, err)
		}
	}
}

func (v visitor) do(steps ...chromedp.Action[chromedp.Void]) {
	v.Helper()
	if err := chromedp.Do(v.ctx, steps...); err != nil {
		v.Fatal(err)
	}
}

// until waits for something to be so on the page.
func (v visitor) until(condition string) {
	v.Helper()
	for begun := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		is, err := chromedp.Run(v.ctx, chromedp.Evaluate[bool]("!!("+condition+")"))
		if err == nil && is {
			return
		}
		if time.Since(begun) > 40*time.Second {
			text, _ := chromedp.Run(v.ctx, chromedp.Evaluate[string](`document.body.innerText`))
			v.Fatalf("never: %s: %v\n%s", condition, err, text)
		}
	}
}

func (v visitor) js(script string) {
	v.Helper()
	if _, err := chromedp.Run(v.ctx, chromedp.Evaluate[any](script)); err != nil {
		v.Fatalf("%s: %v", script, err)
	}
}

func (v visitor) read(expression string) string {
	v.Helper()
	text, err := chromedp.Run(v.ctx, chromedp.Evaluate[string](expression))
	if err != nil {
		v.Fatalf("%s: %v", expression, err)
	}
	return text
}

// press presses the button with a text.
func (v visitor) press(text string) {
	v.Helper()
	v.js(fmt.Sprintf(`[...document.querySelectorAll("button")].find(b => b.textContent.startsWith(%q) || b.ariaLabel === %q).click()`, text, text))
}

// choose sets a field of a form.
func (v visitor) choose(form, field, value string) {
	v.Helper()
	v.js(fmt.Sprintf(`{const f = document.forms[%q].elements[%q]; f.value = %q; f.dispatchEvent(new Event("change"))}`, form, field, value))
}

// step is true once the timeline has a step of a kind, with a text in it.
func step(kind, text string) string {
	return fmt.Sprintf(`[...document.querySelectorAll(".step.%s")].some(s => s.textContent.includes(%q))`, kind, text)
}

// steps is the number before the slash in "12 / 45".
func steps(t *testing.T, counter string) (n int) {
	t.Helper()
	if _, err := fmt.Sscanf(counter, "%d", &n); err != nil {
		t.Fatalf("%q: %v", counter, err)
	}
	return n
}

const (
	ended     = `document.querySelector(".bar em")?.textContent === "confirmed"`
	cancelled = `document.querySelector(".bar em")?.textContent === "cancelled"`
	holds     = `document.querySelector("#verdict").textContent === "11 invariants hold"`
)

func TestPage_ShowsAnOrderFromAllSides(t *testing.T) {
	v := visit(t, 1280)
	v.press("Place order")
	v.until(ended)
	for _, seen := range []string{
		step("call", "POST /v1/orders, key"), step("answer", "202 to POST /v1/orders"),
		step("commit", "saga forward authorise · outbox + payments.authorise"), step("publish", "payments.authorise"), step("deliver", "payments.authorise"),
		step("call", "POST /v1/charges"), step("commit", "charge authorised"), step("answer", "201 to POST /v1/charges"),
		step("commit", "entry: sale"), step("publish", "saga-reply: capture done"), step("commit", "heard, said 204"),
	} {
		v.until(seen)
	}
	v.until(holds)

	// Step by step with the keyboard: at the commit that accepts the order its command is
	// in the outbox, and no payment is there.
	v.js(`document.activeElement.blur()`) // keys typed into a field are that field's
	v.do(chromedp.KeyEvent(kb.Home))
	v.until(`location.hash.endsWith("/1")`)
	for i := 0; i < 12 && !strings.Contains(v.read(`document.querySelector("[aria-selected=true]").textContent`), "saga forward authorise"); i++ {
		v.do(chromedp.KeyEvent("j"))
	}
	moment := v.read(`document.querySelector("#moment").innerText`)
	for _, want := range []string{"orders pending", "sagas forward authorise", "outbox payments.authorise", "answered 202"} {
		if !strings.Contains(moment, want) {
			t.Errorf("no %q in\n%s", want, moment)
		}
	}
	if strings.Contains(moment, "authorised") {
		t.Errorf("a payment before there was one:\n%s", moment)
	}
	// A button keeps the focus while the page around it changes.
	v.js(`document.querySelector("button[title^='one step on']").focus()`)
	before := v.read(`document.querySelector("output").value`)
	v.do(chromedp.KeyEvent(kb.Enter), chromedp.KeyEvent(kb.Enter))
	if after := v.read(`document.querySelector("output").value`); steps(t, after) != steps(t, before)+2 {
		t.Errorf("two steps on with the keyboard led from %s to %s", before, after)
	}

	// The address of a step leads back to it.
	at, there := v.read(`location.href`), v.read(`document.querySelector("[aria-selected=true]").textContent`)
	v.do(chromedp.Navigate("about:blank"), chromedp.Navigate(at))
	v.until(fmt.Sprintf(`document.querySelector("[aria-selected=true]")?.textContent === %q`, there))
	v.press("Live")
	v.press("Refund")
	v.until(`location.hash.startsWith("#refund/rfd_")`)
	v.until(step("commit", "refund finished"))
	v.until(step("answer", "201 to POST /v1/refunds"))
}

func TestPage_ShowsAKillAndItsRepair(t *testing.T) {
	v := visit(t, 1920)
	v.press("payments is killed after the processor has answered")
	v.until(step("died", "payments has ended"))
	v.until(step("started", "payments runs"))
	v.until(step("redeliver", "again: payments.authorise"))
	v.until(step("answer", "the recorded answer again"))
	v.until(ended)
	v.until(holds)

	v.press("kill orders")
	v.until(step("died", "orders has ended"))
}

func TestPage_BreaksAndMends(t *testing.T) {
	v := visit(t, 1280)
	v.choose("arm", "point", "orders.saga.before-commit")
	v.choose("arm", "action", "error")
	v.js(`document.forms.arm.requestSubmit()`)
	v.until(`document.querySelector("#armed").textContent.includes("error at orders.saga.before-commit in orders")`)
	v.choose("world", "contract", "bank.transfers")
	v.js(`document.forms.world.requestSubmit()`)
	v.until(`document.querySelector("#armed").textContent.includes("bank.transfers: lose_answer ×1")`)
	v.press("Disarm all")
	v.until(`document.querySelector("#armed").textContent === "" && document.querySelector("#disarm").disabled`)

	v.choose("order", "card", "4000000000000069")
	v.press("Place order")
	v.until(step("no-answer", "no answer to POST /v1/charges"))
	v.until(ended)

	// While payments is paused the order can still be compensated.
	v.press("pause payments")
	v.until(`document.querySelector("#armed").textContent.includes("payments paused")`)
	v.choose("order", "card", "4242424242424242")
	v.js(`window.before = location.hash`)
	v.press("Place order")
	v.until(`location.hash !== window.before && ` + step("publish", "payments.authorise"))
	v.press("Cancel")
	v.until(step("answer", "/cancel"))
	v.press("resume payments")
	v.until(cancelled)
	v.until(step("paused", "SIGSTOP") + " && " + step("resumed", "SIGCONT"))
}

func TestPage_ShowsAPayoutOnBothSides(t *testing.T) {
	v := visit(t, 1280)
	v.press("Place order")
	v.until(ended)
	v.until(holds) // settled: the money can be paid out
	v.press("Pay out")
	v.until(step("prepare", "payout booked"))
	v.until(`new Set([...document.querySelectorAll(".step.commit-prepared")].map(s => s.querySelector("i").style.gridColumn)).size === 2`) // in both lanes
	v.until(step("call", "POST /bank/transfers"))
	v.until(`document.querySelector(".bar em")?.textContent === "finished, sent"`)
}

// A wrong row turns an invariant red, with an id that leads to its timeline.
func TestPage_VerdictLeadsToTheOrder(t *testing.T) {
	v := visit(t, 1280)
	v.press("Place order")
	v.until(ended)
	v.until(holds)
	id := v.read(`location.hash.split("/")[1]`)
	set := func(status string) {
		conn, err := pgx.Connect(t.Context(), system.DatabaseURL("orders"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(t.Context()) //nolint:errcheck // a test's
		if _, err := conn.Exec(t.Context(), `UPDATE orders SET status = $2 WHERE 'ord_' || id = $1`, id, status); err != nil {
			t.Fatal(err)
		}
	}
	set("cancelled")
	v.js(`document.querySelector("#verdict").click()`)
	v.press("Look again")
	v.until(`document.querySelector("#verdict").className === "bad" && document.querySelector(".verdict tr.bad a[href='#order/` + id + `']")`)
	v.js(`document.querySelector(".verdict tr.bad a").click()`)
	v.until(step("commit", "saga forward authorise"))
	set("confirmed")
	v.until(holds)
}

// When the last browser has gone, the databases keep no log for us and the broker copies
// nothing.
func TestPage_WatchesNothingWhenItIsClosed(t *testing.T) {
	conn, err := pgx.Connect(t.Context(), system.Servers.PostgresURL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context()) //nolint:errcheck // a test's
	slots := func() (n int) {
		if err := conn.QueryRow(t.Context(), `SELECT count(*) FROM pg_replication_slots`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	t.Run("open", func(t *testing.T) {
		visit(t, 1280)
		if n := slots(); n != 4 {
			t.Errorf("%d slots while the page is open, want one for each database", n)
		}
	})
	for begun := time.Now(); slots() > 0; time.Sleep(100 * time.Millisecond) {
		if time.Since(begun) > 30*time.Second {
			t.Fatalf("%d slots are left", slots())
		}
	}
}
