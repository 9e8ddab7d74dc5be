package outbox

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// SetAsideRecord is a message that is kept apart.
type SetAsideRecord struct {
	// Number names it in [Outbox.Requeue] and [Outbox.Discard].
	Number int64
	// Cause says why it was set aside, Moment when.
	Cause  string
	Moment time.Time
	// Record is the message as it was; its ID is no longer in use.
	Record Record
	// Damage is why the message cannot be decoded; empty when it can. Such a
	// message can only be discarded.
	Damage string
}

// Attempt counts a delivery that failed because of this record alone, and
// returns how often that has happened, over restarts. When to give up and call
// [Outbox.SetAside] is the sender's to decide. A hub that cannot be reached is
// no attempt.
func (o *Outbox) Attempt(ctx context.Context, id ID) (attempts int, err error) {
	err = o.do(ctx, func() error {
		return o.withStore(0, func(s *store) error {
			return o.change(s, func(c *changes) error {
				result, err := s.conn.ExecContext(background, `UPDATE messages SET attempts = attempts + 1 WHERE key = ?`, int64(id))
				if err != nil {
					return err
				}
				if n, err := result.RowsAffected(); err != nil || n == 0 {
					return errors.Join(err, ErrNotFound)
				}
				return s.conn.QueryRowContext(background, `SELECT attempts FROM messages WHERE key = ?`, int64(id)).Scan(&attempts)
			})
		})
	})
	if err != nil {
		return 0, fmt.Errorf("outbox: counting an attempt of %v: %w", id, err)
	}
	return attempts, nil
}

// SetAside takes a record out of the queue and keeps it apart, because of
// cause. It returns when that is on stable storage.
func (o *Outbox) SetAside(ctx context.Context, id ID, cause string) error {
	err := o.do(ctx, func() error {
		return o.withStore(0, func(s *store) error {
			return o.change(s, func(c *changes) error { return o.setAside(s, c, id, cause) })
		})
	})
	if err != nil {
		return fmt.Errorf("outbox: setting %v aside: %w", id, err)
	}
	return nil
}

func (o *Outbox) setAside(s *store, c *changes, id ID, cause string) error {
	// In SQL, so that a row that cannot be decoded moves as it is.
	_, err := s.conn.ExecContext(background, `INSERT INTO set_aside (cause, moment, `+columns+`) SELECT ?, ?, `+columns+` FROM messages WHERE key = ?`,
		cause, o.options.Clock().UnixMilli(), int64(id))
	if err != nil {
		return err
	}
	size, found, err := s.delete(int64(id))
	if err != nil {
		return err
	}
	if !found {
		return ErrNotFound
	}
	c.add(id, size, -1)
	c.setAside++
	c.dropped = append(c.dropped, drop{id, SetAside})
	o.warn("set aside", "A message was set aside", "id", id, "cause", cause)
	// The newest stay, as many as fit.
	result, err := s.conn.ExecContext(background, `DELETE FROM set_aside WHERE number NOT IN (
		SELECT number FROM (SELECT number, sum(`+sizeOfRow+`) OVER (ORDER BY number DESC) AS bytes FROM set_aside)
		WHERE bytes <= ? ORDER BY number DESC LIMIT ?)`,
		o.budget.pages*pageSize/8, o.options.MaxSetAside)
	if err != nil {
		return err
	}
	n, err := result.RowsAffected()
	c.setAside -= int(n)
	return err
}

// ListSetAside returns the messages that are kept apart, the oldest first.
func (o *Outbox) ListSetAside(ctx context.Context) ([]SetAsideRecord, error) {
	var list []SetAsideRecord
	err := o.do(ctx, func() error {
		return o.withStore(0, func(s *store) error {
			list = nil
			rows, err := s.conn.QueryContext(background, `SELECT number, cause, moment, `+columns+` FROM set_aside ORDER BY number`)
			if err != nil {
				return err
			}
			defer rows.Close()
			for rows.Next() {
				var entry SetAsideRecord
				var moment int64
				r := scanRow(rows.Scan, &entry.Number, &entry.Cause, &moment)
				entry.Moment = time.UnixMilli(moment)
				if entry.Record, err = r.decode(); err != nil {
					entry.Damage = err.Error()
				}
				list = append(list, entry)
			}
			return rows.Err()
		})
	})
	if err != nil {
		return nil, fmt.Errorf("outbox: listing what is set aside: %w", err)
	}
	return list, nil
}

// Requeue puts messages that were set aside back in the queue, behind the
// others of their priority, with their attempts counted anew.
func (o *Outbox) Requeue(ctx context.Context, numbers ...int64) error {
	err := o.do(ctx, func() error {
		err := o.withStore(0, func(s *store) error {
			return o.change(s, func(c *changes) error {
				for _, number := range numbers {
					if err := o.requeue(s, c, number); err != nil {
						return fmt.Errorf("number %d: %w", number, err)
					}
				}
				return nil
			})
		})
		if err == nil {
			o.announce()
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("outbox: putting messages back: %w", err)
	}
	return nil
}

func (o *Outbox) requeue(s *store, c *changes, number int64) error {
	rows, err := s.conn.QueryContext(background, `DELETE FROM set_aside WHERE number = ? RETURNING `+columns, number)
	if err != nil {
		return err
	}
	var r *row
	for rows.Next() {
		r = scanRow(rows.Scan)
	}
	rows.Close()
	if err := rows.Err(); err != nil {
		return err
	}
	if r == nil {
		return ErrNotFound
	}
	if _, err := r.decode(); err != nil {
		return fmt.Errorf("it cannot be decoded: %w", err)
	}
	r.key = int64(newID(ID(r.key).Priority(), o.sequence))
	o.sequence++
	// Someone wants it sent: its time-to-live starts anew as well.
	now := o.options.Clock().UnixMilli()
	if r.expires != 0 {
		r.expires += now - r.stored
	}
	r.stored, r.attempts = now, 0
	fits, err := o.enforceBytes(s, c, r.size(), ID(r.key).Priority())
	if err != nil {
		return err
	}
	if !fits {
		return ErrFull
	}
	if err := s.put(r); err != nil {
		return err
	}
	c.add(ID(r.key), r.size(), +1)
	c.setAside--
	return nil
}

// Discard removes messages that were set aside for good.
func (o *Outbox) Discard(ctx context.Context, numbers ...int64) error {
	if len(numbers) == 0 {
		return nil
	}
	err := o.do(ctx, func() error {
		return o.withStore(0, func(s *store) error {
			return o.change(s, func(c *changes) error {
				arguments := make([]any, len(numbers))
				for i, number := range numbers {
					arguments[i] = number
				}
				result, err := s.conn.ExecContext(background, `DELETE FROM set_aside WHERE number IN (?`+
					strings.Repeat(",?", len(numbers)-1)+`)`, arguments...)
				if err != nil {
					return err
				}
				n, err := result.RowsAffected()
				c.setAside -= int(n)
				return err
			})
		})
	})
	if err != nil {
		return fmt.Errorf("outbox: discarding what is set aside: %w", err)
	}
	return nil
}
