package stack

import (
	"slices"
	"testing"

	"example.com/failwell/shared/testenv"
)

// Replicas share a program and a database; what tells them apart is the name of their
// instance. With the same name, each would publish what the other writes.
func TestReplica_SharesTheDatabaseAndHasANameOfItsOwn(t *testing.T) {
	opts := Options{Replicas: map[string]int{Orders: 2}, BrokerLinks: []string{"orders-2"}}
	if got, want := opts.processes(), []string{Sandbox, Ledger, Payments, Orders, "orders-2"}; !slices.Equal(got, want) {
		t.Fatalf("%v, want %v", got, want)
	}
	s := &Stack{URL: map[string]string{}, Servers: &testenv.Env{PostgresURL: "postgres://root:root@127.0.0.1:5432/postgres", AMQPURL: "amqp://127.0.0.1:5672/"}}
	if err := s.connect(opts); err != nil {
		t.Fatal(err)
	}
	defer s.Network.close()
	one, two := s.environment(Orders, nil), s.environment("orders-2", nil)
	for _, c := range []struct {
		env  []string
		want string
	}{
		{one, "INSTANCE=orders-1"}, {two, "INSTANCE=orders-2"},
		{one, "DATABASE_URL=postgres://orders:orders@127.0.0.1:5432/orders"}, {two, "DATABASE_URL=postgres://orders:orders@127.0.0.1:5432/orders"},
		{one, "AMQP_URL=amqp://127.0.0.1:5672/"}, {two, "AMQP_URL=" + s.inside[BrokerLink("orders-2")]},
	} {
		if !slices.Contains(c.env, c.want) {
			t.Errorf("no %s in %v", c.want, c.env)
		}
	}
	if s.inside[BrokerLink("orders-2")] == s.Servers.AMQPURL {
		t.Error("orders-2 reaches the broker over the others' link")
	}
}
