package config_test

import (
	"bytes"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/failwell/shared/platform/config"
)

// The tests set environment variables, which belong to the process; so they do
// not run in parallel.

type settings struct {
	config.Common
	Poll     time.Duration `env:"POLL" envDefault:"1s"`
	Upstream string        `env:"UPSTREAM_URL,required,notEmpty"`
}

const (
	key1, key2, key3 = "sk_hush_000000001", "sk_hush_000000002", "sk_hush_000000003"
	secret1, secret2 = "whsec_aHVzaGh1c2hodXNoaHVzaGh1c2hodXNo", "whsec_aHVzaGh1c2hodXNoaHVzaGh1c2hodXNI"
)

func clean(t *testing.T) {
	t.Helper()
	for _, name := range []string{
		"HTTP_ADDR", "DATABASE_URL", "AMQP_URL", "INSTANCE", "LOG_LEVEL", "LAB_FAULTS", "SERVICE_KEY", "MERCHANTS", "POLL", "UPSTREAM_URL",
	} {
		t.Setenv(name, "") // so that the old value comes back after the test
		if err := os.Unsetenv(name); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLoad_NamesEveryWrongVariableInOneLine(t *testing.T) {
	clean(t)
	t.Setenv("UPSTREAM_URL", "")
	t.Setenv("POLL", "soon")
	t.Setenv("LAB_FAULTS", "perhaps")
	t.Setenv("MERCHANTS", "mer_acme")
	_, err := config.Load[settings]()
	if err == nil {
		t.Fatal("accepted")
	}
	for _, name := range []string{"DATABASE_URL", "UPSTREAM_URL", "POLL", "LAB_FAULTS", "MERCHANTS"} {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("%s is not named in: %v", name, err)
		}
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("more than one line: %v", err)
	}
}

func TestLoad_KeepsSecretsOutOfItsError(t *testing.T) {
	for name, merchants := range map[string]string{
		"no webhook secret":       "mer_acme:" + key1,
		"not a webhook secret":    "mer_acme:" + key1 + ":hush",
		"an empty webhook secret": "mer_acme:" + key1 + ":whsec_",
		"a short webhook secret":  "mer_acme:" + key1 + ":whsec_aHVzaA==",
		"one too many":            "mer_acme:" + key1 + ":" + secret1 + ":hush",
		"no id":                   ":" + key1 + ":" + secret1,
		"no key":                  "hush::" + secret1,
		"a key to guess":          "mer_acme:sk_hush:" + secret1,
		"second one is cut off":   "mer_acme:" + key1 + ":" + secret1 + ",mer_other:sk_hush",
	} {
		t.Run(name, func(t *testing.T) {
			clean(t)
			t.Setenv("DATABASE_URL", "postgres://orders:hush@127.0.0.1/orders")
			t.Setenv("UPSTREAM_URL", "http://127.0.0.1")
			t.Setenv("MERCHANTS", merchants)
			_, err := config.Load[settings]()
			if err == nil {
				t.Fatal("accepted")
			}
			if !strings.Contains(err.Error(), "MERCHANTS") || strings.Contains(err.Error(), "hush") {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestLoad_UsesTheDocumentedDefaults(t *testing.T) {
	clean(t)
	t.Setenv("DATABASE_URL", "postgres://127.0.0.1/orders")
	t.Setenv("UPSTREAM_URL", "http://127.0.0.1")
	got, err := config.Load[settings]()
	if err != nil {
		t.Fatal(err)
	}
	want := settings{
		Common: config.Common{
			HTTPAddr: "127.0.0.1:8080", DatabaseURL: "postgres://127.0.0.1/orders", LogLevel: "info", DatabaseConns: 16, StopDelay: time.Second,
		},
		Poll:     time.Second,
		Upstream: "http://127.0.0.1",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	if name := got.InstanceName(); name != host {
		t.Errorf("two replicas would share the lease of %q; want the host's name %q", name, host)
	}
	got.Instance = "orders-2"
	if name := got.InstanceName(); name != "orders-2" {
		t.Errorf("INSTANCE is ignored: %q", name)
	}
}

func TestLoad_RefusesAnInvalidAddress(t *testing.T) {
	type withBroker struct {
		config.Common
		config.Broker
	}
	const database, broker = "postgres://orders:hush@127.0.0.1/orders", "amqp://orders:hush@127.0.0.1:5672/"
	for name, c := range map[string]struct{ database, broker, wrong string }{
		"both right":                 {database, broker, ""},
		"a socket, TLS":              {"postgresql:///orders?host=/run/postgresql", "amqps://broker/", ""},
		"no broker":                  {database, "", "AMQP_URL"},
		"another scheme":             {database, "http://orders:hush@127.0.0.1:5672/", "AMQP_URL must read amqp://"},
		"no scheme":                  {database, "orders:hush@127.0.0.1:5672", "AMQP_URL must read amqp://"},
		"no host":                    {database, "amqp://", "AMQP_URL must read amqp://"},
		"no port":                    {database, "amqp://orders:hush@127.0.0.1:port/", "AMQP_URL must read amqp://"},
		"no database":                {"", broker, "DATABASE_URL"},
		"another database":           {"mysql://orders:hush@127.0.0.1/orders", broker, "DATABASE_URL must read postgres://"},
		"the host only":              {"127.0.0.1", broker, "DATABASE_URL must read postgres://"},
		"a stray control sign":       {database + "\n", broker, "DATABASE_URL must read postgres://"},
		"two hosts in one":           {database, "amqp://orders:hush@a:1,b:2/", "AMQP_URL must read amqp://"},
		"second is malformed":        {database, "amqp://orders:x@a/,amqp://orders:hush@b:port/", "AMQP_URL must read amqp://"},
		"port too large":             {database, "amqp://orders:hush@a:70000/", "AMQP_URL must read amqp://"},
		"two virtual hosts":          {database, "amqp://orders:hush@a/x/y", "AMQP_URL must read amqp://"},
		"parameter that is not read": {database, "amqp://orders:hush@a/?verify=verify_peer", "AMQP_URL has a parameter"},
		"database beside broker":     {"x", "y", "AMQP_URL must read"},
	} {
		t.Run(name, func(t *testing.T) {
			clean(t)
			t.Setenv("DATABASE_URL", c.database)
			t.Setenv("AMQP_URL", c.broker)
			_, err := config.Load[withBroker]()
			if (err != nil) != (c.wrong != "") {
				t.Fatal(err)
			}
			if err == nil {
				return
			}
			if text := err.Error(); !strings.Contains(text, c.wrong) || strings.Contains(text, "hush") || strings.Contains(text, "\n") {
				t.Errorf("got %q, want %q, in one line and without the password", text, c.wrong)
			}
			if c.database == "x" && !strings.Contains(err.Error(), "DATABASE_URL") {
				t.Errorf("only one of two is named: %v", err)
			}
		})
	}
}

// Of two durations that must be ordered, the wrong order works until the day on which it
// matters: a lease shorter than a call ends while its holder waits for the answer.
func TestLoad_RefusesWhatMustBeOrdered(t *testing.T) {
	type service struct {
		config.Common
		config.Broker
		Call  time.Duration `env:"CALL" envDefault:"1s" most:"5s, or a stop is too short for it"`
		Lease time.Duration `env:"LEASE" envDefault:"2s" above:"CALL, or two work on one thing"`
		Limit int           `env:"LIMIT" zero:"none"`
	}
	for given, wrong := range map[string]string{
		"LEASE=1001ms":                           "",
		"LEASE=1s":                               "LEASE (1s) must exceed CALL (1s), or two work on one thing",
		"CALL=3s":                                "LEASE (2s) must exceed CALL (3s)",
		"CALL=0s":                                "CALL must be above zero",
		"CALL=-1s":                               "CALL must be above zero",
		"CALL=6s LEASE=7s":                       "CALL (6s) must be at most 5s, or a stop is too short for it",
		"LIMIT=0":                                "",
		"LIMIT=-1":                               "LIMIT must be above zero",
		"WORKERS=0":                              "WORKERS must be above zero",
		"OUTBOX_POLL=2s":                         "OUTBOX_TAKEOVER (1s) must exceed OUTBOX_POLL (2s)",
		"RETRY_DELAYS=1m,1h INBOX_RETENTION=1h":  "INBOX_RETENTION (1h0m0s) must exceed RETRY_DELAYS (1h1m0s)",
		"RETRY_DELAYS=1m,1h INBOX_RETENTION=62m": "",
		"STOP_DELAY=0s":                          "",
		"STOP_DELAY=6s":                          "STOP_DELAY (6s) must be at most 5s",
	} {
		t.Run(given, func(t *testing.T) {
			clean(t)
			t.Setenv("DATABASE_URL", "postgres://127.0.0.1/orders")
			t.Setenv("AMQP_URL", "amqp://127.0.0.1/")
			for one := range strings.FieldsSeq(given) {
				name, value, _ := strings.Cut(one, "=")
				t.Setenv(name, value)
			}
			_, err := config.Load[service]()
			if (err != nil) != (wrong != "") || err != nil && !strings.Contains(err.Error(), wrong) {
				t.Errorf("got %v, want %q", err, wrong)
			}
		})
	}
}

func TestLoad_RefusesAServiceKeyToGuess(t *testing.T) {
	clean(t)
	t.Setenv("DATABASE_URL", "postgres://127.0.0.1/orders")
	t.Setenv("UPSTREAM_URL", "http://127.0.0.1")
	t.Setenv("SERVICE_KEY", "k")
	if _, err := config.Load[settings](); err == nil || !strings.Contains(err.Error(), "SERVICE_KEY") {
		t.Errorf("got %v", err)
	}
}

func TestWarnOfLab_NamesWhatIsSetAndWhatItOpens(t *testing.T) {
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, nil))
	config.WarnOfLab(logger, settings{})
	if log.Len() > 0 {
		t.Errorf("warns of nothing: %s", &log)
	}
	config.WarnOfLab(logger, settings{Common: config.Common{LabFaults: true}})
	if !strings.Contains(log.String(), "LAB_FAULTS") || !strings.Contains(log.String(), "crash") {
		t.Errorf("got %s", &log)
	}
}

func TestLoad_ReadsMerchantsWithTheirSecrets(t *testing.T) {
	clean(t)
	t.Setenv("DATABASE_URL", "postgres://127.0.0.1/orders")
	t.Setenv("UPSTREAM_URL", "http://127.0.0.1")
	t.Setenv("MERCHANTS", "mer_acme:"+key1+":"+secret1+", mer_other:"+key2+":"+secret2+",mer_acme:"+key3+":"+secret1)
	got, err := config.Load[settings]()
	if err != nil {
		t.Fatal(err)
	}
	want := []config.Merchant{
		{ID: "mer_acme", Key: key1, WebhookSecret: secret1},
		{ID: "mer_other", Key: key2, WebhookSecret: secret2},
		{ID: "mer_acme", Key: key3, WebhookSecret: secret1}, // its next key, beside the one in use
	}
	if diff := cmp.Diff(want, got.Merchants); diff != "" {
		t.Error(diff)
	}
}
