package callback_test

import (
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"example.com/failwell/shared/pattern/callback"
)

// A signature that anybody but the merchant's own secret explains is none.
func TestSender_SignsWithTheSecretOfTheMerchant(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	e := w.endpoint(status(http.StatusNoContent))
	w.start(w.config())
	for merchant, secret := range map[string]string{"acme": acmeSecret, "other": otherSecret} {
		payload := `{ "order":"ord_7", "for":"` + merchant + `" }`
		id := w.enqueue(merchant, e.url, payload)
		got := e.next()
		if string(got.body) != payload || got.method != http.MethodPost || got.header.Get("Content-Type") != "application/json" || got.id() != "msg_"+id.String() {
			t.Errorf("%s %v: %s", got.method, got.header, got.body)
		}
		wantSigned(t, got, secret)
		for _, wrong := range []string{acmeSecret, otherSecret, ""} {
			receiver, err := standardwebhooks.NewWebhook(wrong)
			if err != nil {
				t.Fatal(err)
			}
			if wrong != secret && receiver.Verify(got.body, got.header) == nil {
				t.Errorf("the news for %s is signed with %q", merchant, wrong)
			}
		}
		if s := w.becomes(id, "delivered"); !s.Delivered || s.Attempts != 1 || s.LastError != "" {
			t.Errorf("it stands as %+v", s)
		}
	}
	e.wantNoMore()
}

// A signature made with an empty key is one that anybody can make.
func TestSender_SendsNothingWithoutASecret(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	e := w.endpoint(status(http.StatusOK))
	w.start(w.config())
	for _, merchant := range []string{"unknown", "bare", "blank"} {
		if s := w.becomes(w.enqueue(merchant, e.url, "{}"), "parked"); !strings.Contains(s.LastError, "secret of "+merchant) {
			t.Errorf("%s: it stands as %+v", merchant, s)
		}
	}
	e.wantNoMore()
}

// The receiver knows a repetition by its id, and must be able to trust it.
func TestSender_EachTryHasTheSameIDAndAValidSignature(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	e := w.endpoint(func(n int, out http.ResponseWriter) {
		switch n {
		case 1:
			out.WriteHeader(http.StatusInternalServerError)
		case 2:
			panic(http.ErrAbortHandler) // the connection breaks
		}
	})
	w.start(w.config())
	id := w.enqueue("acme", e.url, `{"order":"ord_7"}`)
	if s := w.becomes(id, "delivered"); s.Attempts != 3 || s.LastError != "" {
		t.Errorf("it stands as %+v", s)
	}
	for range 3 {
		got := e.next()
		if got.id() != "msg_"+id.String() || string(got.body) != `{"order":"ord_7"}` {
			t.Errorf("sent as %s: %s", got.id(), got.body)
		}
		wantSigned(t, got, acmeSecret)
	}
	e.wantNoMore()
}

func TestSender_ParksAtOnceWhatNoFurtherTryWillHelp(t *testing.T) {
	t.Parallel()
	for code, text := range map[int]string{http.StatusGone: "410", http.StatusRequestEntityTooLarge: "413"} {
		w := newWorld(t)
		e := w.endpoint(func(_ int, out http.ResponseWriter) {
			out.Header().Set("Retry-After", "0")
			out.WriteHeader(code)
		})
		w.start(w.config())
		id := w.enqueue("acme", e.url, "{}")
		e.next()
		if s := w.becomes(id, "parked"); s.Attempts != 1 || s.Delivered || !strings.Contains(s.LastError, text) {
			t.Errorf("it stands as %+v", s)
		}
		e.wantNoMore()
	}
}

func TestSender_HonoursRetryAfterWithinBounds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cfg := w.config()
	cfg.Delays = []time.Duration{0, 10 * time.Minute, 0}
	w.start(cfg)

	const day = 24 * 60 * 60
	soonest, latest := 10*60, 12*60 // by the schedule, with its jitter
	for name, c := range map[string]struct {
		value    string
		min, max int // seconds
	}{
		"none":                          {"", soonest, latest},
		"seconds":                       {"3600", 3600, 3600},
		"date":                          {time.Now().Add(2 * time.Hour).UTC().Format(http.TimeFormat), 7200, 7200},
		"sooner than the schedule":      {"5", soonest, latest},
		"of 23 digits":                  {"10000000000000000000000", day, day},
		"at once":                       {"0", soonest, latest},
		"date that is over":             {time.Now().Add(-2 * time.Hour).UTC().Format(http.TimeFormat), soonest, latest},
		"a year":                        {"31536000", day, day},
		"date in a year":                {time.Now().Add(365 * 24 * time.Hour).UTC().Format(http.TimeFormat), day, day},
		"more seconds than we count to": {"10000000000", day, day},
		"negative":                      {"-3600", soonest, latest},
		"nonsense":                      {"later", soonest, latest},
	} {
		e := w.endpoint(func(_ int, out http.ResponseWriter) {
			if c.value != "" {
				out.Header().Set("Retry-After", c.value)
			}
			out.WriteHeader(http.StatusServiceUnavailable)
		})
		id := w.enqueue("acme", e.url, "{}")
		e.next()
		eventually(t, "the failure is noted", func() bool { return w.standing(id).LastError != "" })
		// The last look is a little later than the note; a date has no fractions.
		s, slack := w.standing(id), patience.Seconds()+1
		if s.State != "pending" || s.Attempts != 1 || s.Wait < float64(c.min)-slack || s.Wait > float64(c.max)+1 {
			t.Errorf("%s: it stands as %+v, want another try in %d to %d seconds", name, s, c.min, c.max)
		}
		e.wantNoMore()
	}
}

// A redirect could lead into our own network, and a POST that follows one can
// arrive as a GET without the news.
func TestSender_RedirectIsAFailureAndNotFollowed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	elsewhere := w.endpoint(status(http.StatusOK))
	w.start(w.config())
	for _, code := range []int{http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect} {
		e := w.endpoint(func(_ int, out http.ResponseWriter) {
			out.Header().Set("Location", elsewhere.url)
			out.WriteHeader(code)
		})
		if s := w.becomes(w.enqueue("acme", e.url, "{}"), "parked"); s.Attempts != 3 || s.Delivered {
			t.Errorf("%d: it stands as %+v", code, s)
		}
	}
	elsewhere.wantNoMore()
}

func TestReplay_SendsAParkedCallbackUnderItsID(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const repaired = 5 // three tries of the first schedule and one of the second fail
	e := w.endpoint(func(n int, out http.ResponseWriter) {
		if n < repaired {
			out.WriteHeader(http.StatusBadRequest)
		}
	})
	w.start(w.config())
	id := w.enqueue("acme", e.url, "{}")
	if s := w.becomes(id, "parked"); s.Attempts != 3 || s.Delivered || !strings.Contains(s.LastError, "status 400") {
		t.Errorf("it stands as %+v", s)
	}

	if err := callback.Replay(t.Context(), w.db, id); err != nil {
		t.Fatal(err)
	}
	// One failure after the replay does not park it: the schedule is new.
	if s := w.becomes(id, "delivered"); s.Attempts != 2 || !s.Delivered || s.LastError != "" {
		t.Errorf("it stands as %+v", s)
	}
	for range repaired {
		if got := e.next(); got.id() != "msg_"+id.String() {
			t.Errorf("sent as %s", got.id())
		}
	}
	e.wantNoMore()
}

// A replay of what is delivered would be a second delivery, and of what is due a
// way to hammer an endpoint.
func TestReplay_RefusesWhatIsNotParked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.enqueue("acme", "http://127.0.0.1:1", "{}")
	for _, state := range []string{"pending", "delivered"} {
		w.exec(`UPDATE callbacks SET attempts = 2, state = '` + state + `'`)
		if err := callback.Replay(t.Context(), w.db, id); err == nil {
			t.Errorf("replayed what was %s", state)
		}
		if s := w.standing(id); s.State != state || s.Attempts != 2 {
			t.Errorf("what was %s stands as %+v", state, s)
		}
	}
	if err := callback.Replay(t.Context(), w.db, uuid.New()); err == nil {
		t.Error("replayed what is not there")
	}
}

// The check is made with the address that is connected to, so a name that
// leads inside does not help.
func TestSender_CallsNoPrivateAddressByAnyName(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cfg := w.config()
	cfg.Filter = callback.Filter{}
	w.start(cfg)
	for _, host := range []string{"127.0.0.1", "localhost", "[::ffff:127.0.0.1]"} {
		s := w.becomes(w.enqueue("acme", "https://"+host+":8443/?token=secret", "{}"), "parked")
		if !strings.Contains(s.LastError, callback.ErrRefused.Error()) || strings.Contains(s.LastError, "secret") {
			t.Errorf("%s: it stands as %+v", host, s)
		}
	}
}

// Enqueued when plain HTTP was allowed.
func TestSender_CallsNoURLThatIsRefusedByNow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	e := w.endpoint(status(http.StatusOK))
	cfg := w.config()
	cfg.Filter = callback.Filter{}
	w.start(cfg)
	if s := w.becomes(w.enqueue("acme", e.url, "{}"), "parked"); !strings.Contains(s.LastError, "must be https") {
		t.Errorf("it stands as %+v", s)
	}
	e.wantNoMore()
}

// rude answers each connection with these bytes.
func (w *world) rude(answer string) (url string) {
	listener, err := (&net.ListenConfig{}).Listen(w.t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 4096))
			_, _ = conn.Write([]byte(answer))
			_ = conn.Close()
		}
	}()
	return "http://" + listener.Addr().String()
}

// Go's errors quote the endpoint. What it says must neither fill the table nor fail
// the transaction in which it is noted, for that is also everybody else's.
func TestSender_RecordsAFailureWhateverTheEndpointSays(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ answer, noted string }{
		"a zero byte and half a character": {"HTTP/1.1 200 OK\r\nX\x00\xff\r\n\r\n", "malformed MIME header"},
		"a line of 8 kB":                   {"HTTP/1.1 200 OK\r\n" + strings.Repeat("é", 4096) + "\r\n\r\n", "malformed MIME header"},
		"20 kB of headers":                 {"HTTP/1.1 200 OK\r\n" + strings.Repeat("X: yyyyyyyyyyyyyyyy\r\n", 1000) + "\r\n", "headers exceeded"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			cfg := w.config()
			cfg.Delays = []time.Duration{0}
			quick := w.endpoint(status(http.StatusOK))
			rude := w.enqueue("acme", w.rude(c.answer), "{}")
			good := w.enqueue("other", quick.url, "{}")
			w.start(cfg)
			w.becomes(good, "delivered")
			if s := w.becomes(rude, "parked"); !strings.Contains(s.LastError, c.noted) || len(s.LastError) > 1024 {
				t.Errorf("noted: %d bytes, %.100q", len(s.LastError), s.LastError)
			}
		})
	}
}
