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
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/jackc/pgx/v5"

	"example.com/failwell/scripts/lab/experiments"
	"example.com/failwell/scripts/lab/mutants"
	"example.com/failwell/scripts/live"
	"example.com/failwell/scripts/shop"
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
	lab, at, end, err := begin(ctx, nil)
	if err != nil {
		return 1, err
	}
	system, page = lab, at
	code := m.Run()
	stop()
	return code, end()
}

// begin starts a system, with some of its source replaced, and the page in front of it. end
// is called when ctx has ended.
func begin(ctx context.Context, overlay map[string]string) (system *stack.Stack, page string, end func() error, err error) {
	p := live.New()
	system, err = stack.Start(ctx, stack.Options{Out: os.Stderr, IgnoreGiven: true, LogicalDecoding: true, Network: true, Lives: p.Life, Overlay: overlay})
	if err != nil {
		return nil, "", nil, err
	}
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		system.Close()
		return nil, "", nil, err
	}
	served := make(chan error, 1)
	go func() {
		served <- p.Serve(ctx, listener, live.System{
			Env: system.Env(), RabbitAPI: system.Servers.RabbitAPI, Root: system.Root, Signal: system.Signal, Pid: system.Pid,
			Servers: system.Servers, Network: system.Network,
		})
	}()
	return system, "http://" + listener.Addr().String(), func() error {
		err := <-served
		system.Close()
		return err
	}, nil
}

// visitor is a person at the browser.
type visitor struct {
	testing.TB
	ctx context.Context //nolint:containedctx // the tab; it ends with the test
}

func visit(t testing.TB, width int64) visitor {
	t.Helper()
	for _, service := range []string{"ORDERS_URL", "PAYMENTS_URL", "LEDGER_URL"} { // the test before may have killed one
		awaitReady(t, system.Env()[service]+"/readyz")
	}
	return watching(t, width, page)
}

// watching opens a page with a system behind it, and waits until it records.
func watching(t testing.TB, width int64, page string) visitor {
	t.Helper()
	v := open(t, width, page)
	v.until(`document.querySelector("#sources").textContent === "recording"`)
	v.until(`document.forms.arm.elements.service.value !== ""`) // the fault points are there
	return v
}

// open opens an address in a browser of its own.
func open(t testing.TB, width int64, address string) visitor {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	ctx, end := chromedp.NewExecAllocator(ctx, append(chromedp.DefaultExecAllocatorOptions[:], chromedp.NoSandbox)...) // we are root in a container
	ctx, closeTab := chromedp.NewContext(ctx)
	t.Cleanup(func() { closeTab(); end(); cancel() })
	v := visitor{t, ctx}
	v.do(chromedp.EmulateViewport(width, 1000), chromedp.Navigate(address))
	return v
}

func awaitReady(t testing.TB, url string) {
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

// until waits for something to be so on the page: long, because a broker that was killed
// takes most of a minute to come back on a machine that is busy.
func (v visitor) until(condition string) {
	v.Helper()
	for begun := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		is, err := chromedp.Run(v.ctx, chromedp.Evaluate[bool]("!!("+condition+")"))
		if err == nil && is {
			return
		}
		if time.Since(begun) > 2*time.Minute {
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
	v.until(fmt.Sprintf(`[...document.querySelectorAll("button")].some(b => b.textContent.startsWith(%q) || b.ariaLabel === %q)`, text, text))
	v.js(fmt.Sprintf(`[...document.querySelectorAll("button")].find(b => b.textContent.startsWith(%q) || b.ariaLabel === %q).click()`, text, text))
}

// choose sets a field of a form.
func (v visitor) choose(form, field, value string) {
	v.Helper()
	v.js(fmt.Sprintf(`{const f = document.forms[%q].elements[%q]; f.value = %q; f.dispatchEvent(new Event("change"))}`, form, field, value))
}

// placeAnother places an order, and waits until it is the one that is shown.
func (v visitor) placeAnother() {
	v.Helper()
	v.js(`window.before = location.hash`)
	v.press("Place order")
	v.until(`location.hash !== window.before && ` + step("call", "/v1/orders"))
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
	recording = `document.querySelector("#sources").textContent === "recording"`
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
	v.press("Just show me")
	v.until(step("died", "payments has ended"))
	v.until(step("started", "payments runs"))
	v.until(step("redeliver", "again: payments.authorise"))
	v.until(step("answer", "the recorded answer again"))
	v.until(ended)
	v.until(holds)

	v.placeAnother() // what happens long after an order is not on its timeline
	v.press("kill orders")
	v.until(step("died", "orders has ended"))
}

// A crash is armed and meets what is placed: the page asks first, then plays from the first
// step, and says at the end what was right.
func TestPage_AsksBeforeItPlays(t *testing.T) {
	v := visit(t, 1280)
	v.choose("arm", "point", "orders.accept.after-commit")
	v.js(`document.forms.arm.requestSubmit()`)
	v.until(`document.querySelector("#armed").textContent.includes("crash at orders.accept.after-commit")`)
	v.press("Place order")
	v.until(`document.querySelector(".ask")?.innerText.includes("How many orders are placed?")`) // the experiment's
	if v.read(`String(document.querySelector(".step"))`) != "null" {
		t.Error("the timeline stands beside the questions")
	}
	v.js(`for (const [i, said] of ["confirmed", "2"].entries()) document.querySelector(".ask [name=q" + i + "][value='" + said + "']").click()`)
	// Each step stands for less than half a second: the page itself notes what it shows.
	v.js(`window.shown = []; new MutationObserver(() => {
		const at = document.querySelector(".steps output")?.value.split(" /")[0]
		if (at && at !== window.shown.at(-1)) window.shown.push(at)
	}).observe(document.querySelector("main"), {childList: true})`)
	v.press("Show what happens")
	v.until(`window.shown.length > 2`)
	if shown := v.read(`window.shown.slice(0, 3).join()`); shown != "1,2,3" {
		t.Errorf("the page plays the steps %s", shown)
	}
	v.until(ended)
	v.press("Live")
	v.until(step("died", "orders has ended"))
	v.until(`document.querySelector(".marks .good")?.innerText.includes("It was: confirmed")`)
	v.until(`document.querySelector(".marks .bad").innerText.includes("It was: 1; you said: 2")`)
	v.until(`document.querySelector(".marks .bad").getBoundingClientRect().bottom < innerHeight`) // in view
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

// A stream is a number of orders a second, each of which has its timeline.
func TestPage_PlacesAStream(t *testing.T) {
	v := visit(t, 1280)
	v.choose("stream", "rate", "5")
	v.press("Start")
	v.until(`/\d\d placed, 5 a second/.test(document.querySelector("#flow").textContent)`)
	v.until(`document.querySelectorAll("#subjects a").length > 5`)
	v.press("Stop")
	v.until(`document.querySelector("#stream button").textContent === "Start" && document.querySelector("#flow").textContent.includes("orders have ended")`)
	v.js(`document.querySelector("#subjects a").click()`)
	v.until(step("commit", "saga forward authorise"))
	v.until(holds)
}

// PostgreSQL and RabbitMQ are killed, restarted and paused, and networks cut and slowed down,
// while orders are placed. Each is on the timelines, and one button takes back what stays.
func TestPage_BreaksServersAndNetworks(t *testing.T) {
	v := visit(t, 1920)
	for _, name := range []string{"PostgreSQL", "RabbitMQ"} {
		v.placeAnother()
		v.press("kill " + name)
		v.until(step("died", name+" has ended: kill") + " && " + step("started", name+" answers again"))
		v.until(ended)
		v.until(recording)
	}
	v.placeAnother() // what happens long after an order is not on its timeline
	v.press("restart payments")
	v.until(step("died", "payments has ended") + " && " + step("started", "payments runs"))

	v.press("pause PostgreSQL")
	v.press("cut rabbitmq")
	v.press("slow sandbox")
	for _, armed := range []string{"PostgreSQL paused", "network to rabbitmq cut", "network to sandbox slow"} {
		v.until(fmt.Sprintf(`document.querySelector("#armed").textContent.includes(%q)`, armed))
	}
	v.press("Disarm all")
	v.until(`document.querySelector("#armed").textContent === ""`)
	v.until(recording)
	v.js(`window.before = location.hash`)
	v.press("Place order")
	v.until(`location.hash !== window.before && ` + ended)
	v.until(holds)
}

// What waits for a person is listed with what is known of it, and ended from the page.
func TestPage_ResolvesWhatWaitsForAPerson(t *testing.T) {
	v := visit(t, 1280)
	operator := func() { v.js(`location.hash = "#operator"`); v.until(`document.querySelector(".operator h3")`) }
	lists := func(text string) {
		v.Helper()
		v.until(fmt.Sprintf(`(document.querySelector(".operator")?.innerText.includes(%q)) || (document.querySelector(".operator .bar button")?.click(), false)`, text))
	}
	v.press("Place order")
	v.until(ended)
	v.until(holds) // there is money

	// The bank's answer is lost, and its statement is not fetched: a person says what the bank says.
	v.choose("world", "contract", "bank.transfers")
	v.js(`document.forms.world.requestSubmit()`)
	v.press("Pay out")
	v.until(`document.querySelector(".bar em")?.textContent === "finished, unknown"`)
	payout := v.read(`location.hash.split("/")[1]`)
	operator()
	lists(payout)
	v.press("Sent")
	lists("Each payout is known as sent or failed.")
	v.until(`document.querySelector(".operator").innerText.includes("Both sides agree.") ||
		([...document.querySelectorAll(".operator button")].find(b => b.textContent === "Reconcile now").click(), false)`) // the first may come before the ledger knows

	// The processor fails at each capture: after its tries the command is parked. It is put
	// back when the processor works again.
	v.choose("world", "contract", "charges.capture")
	v.choose("world", "fault", "fail_before")
	v.choose("world", "times", "0")
	v.js(`document.forms.world.requestSubmit()`)
	v.press("Place order")
	v.until(step("parked", "payments.capture"))
	order := v.read(`location.hash`)
	v.press("Disarm all")
	v.until(`document.querySelector("#armed").textContent === ""`)
	operator()
	lists("payments.capture")
	v.press("Replay")
	lists("None is parked.")
	v.js(`location.hash = "` + order + `"`)
	v.until(ended)

	// A merchant's endpoint has failed for days, and a coordinator is gone for good.
	change(t, "orders", `UPDATE callbacks SET state = 'parked', last_error = 'no answer for days' WHERE subject = '`+strings.Split(order, "/")[1]+`'`)
	change(t, "payments", `BEGIN`, `UPDATE payments SET reason = reason WHERE false`, `PREPARE TRANSACTION 'of-a-coordinator-that-is-gone'`)
	operator()
	lists("no answer for days")
	v.press("Send again")
	lists("None was given up on.")
	v.until(`document.querySelector(".operator").innerText.includes("of-a-coordinator-that-is-gone")`)
	v.press("Abort")
	lists("None is prepared.")
	v.until(holds)
}

// change does something to a database that no service would.
func change(t *testing.T, database string, statements ...string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), system.DatabaseURL(database))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context()) //nolint:errcheck // a test's
	for _, statement := range statements {
		if _, err := conn.Exec(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}

// A wrong row turns an invariant red, with an id that leads to its timeline.
func TestPage_VerdictLeadsToTheOrder(t *testing.T) {
	v := visit(t, 1280)
	v.press("Place order")
	v.until(ended)
	v.until(holds)
	id := v.read(`location.hash.split("/")[1]`)
	set := func(status string) {
		change(t, "orders", fmt.Sprintf(`UPDATE orders SET status = '%s' WHERE 'ord_' || id = '%s'`, status, id))
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

// With a build in which the processor gets no key, an answer that is lost is a second charge:
// the verdict is red, and leads to the order.
func TestPage_VerdictIsRedWithAMutantsBuild(t *testing.T) {
	chosen, err := mutants.Chosen([]string{"key-not-sent"})
	if err != nil {
		t.Fatal(err)
	}
	overlay, err := chosen[0].Overlay(system.Root)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	_, page, end, err := begin(ctx, overlay)
	if err != nil {
		stop()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		if err := end(); err != nil {
			t.Error(err)
		}
	})
	v := watching(t, 1280, page)
	v.choose("order", "card", "4000000000000069")
	v.press("Place order")
	v.until(ended)
	order := v.read(`location.hash`)
	v.until(`document.querySelector("#verdict").textContent === "violated: charged-once"`)
	v.js(`document.querySelector("#verdict").click()`)
	v.until(`document.querySelector(".verdict tr.bad a")`)
	v.js(`document.querySelector(".verdict tr.bad a").click()`)
	v.until(`[...document.querySelectorAll(".step.commit")].filter(s => s.textContent.includes("charge authorised")).length === 2`)
	if at := v.read(`location.hash`); at != order && !strings.HasPrefix(at, "#id/pay_") {
		t.Errorf("the violation leads to %s, the order is %s", at, order)
	}
}

// The page without a server: each experiment asks, and plays what was recorded.
func TestSite_PlaysEachRecordingFromTheDisk(t *testing.T) {
	v := open(t, 1280, "file://"+filepath.Join(system.Root, "docs", "site", "index.html"))
	v.until(`document.querySelectorAll(".start th a").length === ` + strconv.Itoa(len(experiments.All)))
	for _, e := range experiments.All {
		v.js(`location.hash = "#run/` + e.ID + `"`)
		v.until(`document.querySelector(".ask h2")?.textContent === "` + e.ID + `"`)
		v.press("Show what happens")
		v.until(`[...document.querySelectorAll(".halves section")].every(s => s.querySelectorAll(".step").length > 1) && document.querySelector(".diff .del, .diff .add")`)
		v.until(`document.querySelector(".halves .without p.bad") && document.querySelector(".halves .with p.good")`)
		for _, half := range []string{"without", "with"} {
			v.js(`location.hash = "#run/` + e.ID + `/` + half + `/1"`)
			v.until(`document.querySelector("#moment-title")?.textContent === "At step 1"`)
			v.do(chromedp.KeyEvent(kb.End))
			v.until(`document.querySelector("output").value.split(" / ").every((n, _, all) => n === all[0])`)
		}
	}
}

// What the page costs: eight clients whose orders end one after the other, on the system as
// the bench has it, with the page's server and no browser, and with the page open.
//
//	go test -run WatchesNothing -bench Order -benchtime 20s ./scripts/live/browser
func BenchmarkOrder(b *testing.B) {
	sell := func(b *testing.B, system *stack.Stack) {
		b.Helper()
		acme := shop.New(system.Env())
		b.SetParallelism(max(1, 8/runtime.GOMAXPROCS(0)))
		b.ResetTimer()
		b.RunParallel(func(each *testing.PB) {
			for each.Next() {
				if o, err := acme.Buy(b.Context(), shop.CardWorks, shop.Item{SKU: "mug", Quantity: 1}); err != nil || o.Status != "confirmed" {
					b.Error(o, err)
				}
			}
		})
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "orders/s")
	}
	b.Run("bare", func(b *testing.B) {
		bare, err := stack.Start(b.Context(), stack.Options{IgnoreGiven: true})
		if err != nil {
			b.Fatal(err)
		}
		defer bare.Close()
		sell(b, bare)
	})
	b.Run("closed", func(b *testing.B) { sell(b, system) })
	b.Run("open", func(b *testing.B) {
		visit(b, 1280)
		sell(b, system)
	})
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
