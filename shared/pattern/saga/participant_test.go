package saga_test

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"testing"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/failwell/shared/pattern/outbox"
	"example.com/failwell/shared/pattern/reliableretries"
	"example.com/failwell/shared/pattern/saga"
	"example.com/failwell/shared/platform/postgres"
)

// participant holds seats. No relay runs, so every reply stays in the outbox.
func participant(t *testing.T, db *pgxpool.Pool) saga.Participant {
	t.Helper()
	if _, err := db.Exec(t.Context(), `CREATE TABLE seats (id bigint GENERATED ALWAYS AS IDENTITY)`); err != nil {
		t.Fatal(err)
	}
	return saga.Participant{
		Outbox: outbox.New("/seats", "test"), ReplyTo: "trips.saga-reply",
		Write: func(ctx context.Context, fill func(b *pgx.Batch)) error { return postgres.Write(ctx, db, fill) },
	}
}

func holdSeat(b *pgx.Batch) { b.Queue(`INSERT INTO seats DEFAULT VALUES`) }

func message(kind, subject string, data any) event.Event {
	e := event.New()
	e.SetID(uuid.Must(uuid.NewV7()).String())
	e.SetSource("/trips")
	e.SetType(kind)
	if subject != "" {
		e.SetSubject(subject)
	}
	if err := e.SetData(event.ApplicationJSON, data); err != nil {
		panic(err)
	}
	return e
}

func decodeCommand(t *testing.T, e event.Event) saga.Command {
	t.Helper()
	cmd, err := saga.DecodeCommand(e, &struct{}{})
	if err != nil {
		t.Fatal(err)
	}
	return cmd
}

// replies are those in the outbox, as the orchestrator reads them.
func replies(t *testing.T, db *pgxpool.Pool) (all []string) {
	t.Helper()
	rows, _ := db.Query(t.Context(), `SELECT body FROM outbox WHERE type = 'trips.saga-reply' ORDER BY message_id`)
	bodies, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	if err != nil {
		t.Fatal(err)
	}
	for _, body := range bodies {
		var e event.Event
		if err := json.Unmarshal(body, &e); err != nil {
			t.Fatal(err)
		}
		r, err := saga.DecodeReply(e)
		if err != nil || r.Message.Source != "/seats" {
			t.Fatal(r, err)
		}
		all = append(all, fmt.Sprintf("%s: %s %s %s", r.SagaID, r.Step, r.Outcome, r.Reason))
	}
	return all
}

func seats(t *testing.T, db *pgxpool.Pool) (n int) {
	t.Helper()
	if err := db.QueryRow(t.Context(), `SELECT count(*) FROM seats`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestAnswer_OfACommandDeliveredManyTimesIsGivenOnce(t *testing.T) {
	t.Parallel()
	db := database(t)
	p := participant(t, db)
	cmd := decodeCommand(t, message("seats.hold", "trip_1", struct{}{}))
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if err := p.Answer(t.Context(), cmd, cmd.Done(), holdSeat); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if got := fmt.Sprint(replies(t, db)); seats(t, db) != 1 || got != "[trip_1: hold done ]" {
		t.Errorf("%d seats are held, replies %s", seats(t, db), got)
	}
}

// A command sent again is another message with the same meaning: the participant
// repeats its answer and does nothing.
func TestAnswer_WithoutWorkIsTheReplyAlone(t *testing.T) {
	t.Parallel()
	db := database(t)
	p := participant(t, db)
	for range 2 {
		cmd := decodeCommand(t, message("seats.hold", "trip_1", struct{}{}))
		if err := p.Answer(t.Context(), cmd, cmd.Refused("full"), nil); err != nil {
			t.Fatal(err)
		}
	}
	if got := fmt.Sprint(replies(t, db)); seats(t, db) != 0 || got != "[trip_1: hold refused full trip_1: hold refused full]" {
		t.Errorf("%d seats are held, replies %s", seats(t, db), got)
	}
}

// Work that fails takes its reply with it, and its change record: the command must
// be handled when it comes again.
func TestAnswer_OfWorkThatFailsIsNotGiven(t *testing.T) {
	t.Parallel()
	db := database(t)
	p := participant(t, db)
	cmd := decodeCommand(t, message("seats.hold", "trip_1", struct{}{}))
	err := p.Answer(t.Context(), cmd, cmd.Done(), func(b *pgx.Batch) {
		holdSeat(b)
		b.Queue(`SELECT 1 / 0`)
	})
	if err == nil || seats(t, db) != 0 || len(replies(t, db)) != 0 {
		t.Errorf("%v; %d seats, replies %v", err, seats(t, db), replies(t, db))
	}
	if err := p.Answer(t.Context(), cmd, cmd.Done(), holdSeat); err != nil || seats(t, db) != 1 {
		t.Errorf("when it comes again: %v, %d seats", err, seats(t, db))
	}
}

func TestDecode_OfAMalformedMessageIsAPermanentError(t *testing.T) {
	t.Parallel()
	command := func(e event.Event) error { _, err := saga.DecodeCommand(e, &struct{ Seats int }{}); return err }
	reply := func(e event.Event) error { _, err := saga.DecodeReply(e); return err }
	numbered := message("seats.hold", "trip_1", struct{}{})
	numbered.SetID("7")
	for name, err := range map[string]error{
		"a command without a saga":   command(message("seats.hold", "", struct{}{})),
		"a command of another shape": command(message("seats.hold", "trip_1", map[string]string{"Seats": "two"})),
		"an id that is no UUID":      command(numbered),
		"a reply without a saga":     reply(message("trips.saga-reply", "", saga.Reply{Step: "hold", Outcome: saga.Done})),
		"an outcome of another kind": reply(message("trips.saga-reply", "trip_1", saga.Reply{Step: "hold", Outcome: "perhaps"})),
	} {
		if err == nil || !reliableretries.IsPermanent(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
