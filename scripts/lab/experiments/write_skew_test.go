package experiments

import (
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"example.com/failwell/shared/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// Two doctors are on call, and one must stay. Each looks, sees the other, and goes home.
// They write different rows, so no row lock and no constraint on a row stops them.
func TestWriteSkew_OnlySerializableRefusesOneOfTheTwo(t *testing.T) {
	ctx, url := t.Context(), testenv.Postgres(t, nil)
	var doctor [2]*pgx.Conn
	for i := range doctor {
		doctor[i] = got(pgx.Connect(ctx, url))
		defer doctor[i].Close(ctx) //nolint:errcheck // the test is over
	}
	for level, stays := range map[pgx.TxIsoLevel]int{pgx.ReadCommitted: 0, pgx.RepeatableRead: 0, pgx.Serializable: 1} {
		_, err := doctor[0].Exec(ctx, `DROP TABLE IF EXISTS doctors; CREATE TABLE doctors (id int, on_call bool); INSERT INTO doctors VALUES (0, true), (1, true)`)
		must(err)
		var tx [2]pgx.Tx
		for i := range doctor { // both look
			tx[i] = got(doctor[i].BeginTx(ctx, pgx.TxOptions{IsoLevel: level}))
			var onCall int
			must(tx[i].QueryRow(ctx, `SELECT count(*) FROM doctors WHERE on_call`).Scan(&onCall))
			if onCall != 2 {
				t.Fatalf("doctor %d sees %d on call", i, onCall)
			}
		}
		for i := range doctor { // both go home
			_, err := tx[i].Exec(ctx, `UPDATE doctors SET on_call = false WHERE id = $1`, i)
			if err == nil {
				err = tx[i].Commit(ctx)
			}
			if pgErr := (*pgconn.PgError)(nil); err != nil && (!errors.As(err, &pgErr) || pgErr.Code != "40001") {
				t.Fatal(err)
			}
			_ = tx[i].Rollback(ctx) // of the one that was refused; it would look again
		}
		var onCall int
		must(doctor[0].QueryRow(ctx, `SELECT count(*) FROM doctors WHERE on_call`).Scan(&onCall))
		if onCall != stays {
			t.Errorf("%s: %d on call, want %d", level, onCall, stays)
		}
	}
}
