package redisstore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/caddy-wechat/caddy-wechat/ticket"
)

// Revocations keeps ended sessions in Redis, in place of files. What would be the file
//
//	<folder>/<hour>/<until>-<session id>
//
// is a member of the hour's set; an index tells which hours there are. All of it ends on its own, an hour after
// the last token of a session that it is about: clocks differ.
type Revocations struct{ store *Store }

// Revocations returns where s keeps ended sessions.
func (s *Store) Revocations() Revocations { return Revocations{s} }

const (
	endsLate = time.Hour           // how long after it is over a revocation stays
	lifeLong = 90 * 24 * time.Hour // how long the mark stays that nobody looks at; a session lives 30 days unless told otherwise
)

// All keys have one hash tag: a script may then use several of them in a Cluster.
func (r Revocations) hourKey(hour string) string { return r.store.prefix + "{revoked}" + hour }
func (r Revocations) indexKey() string           { return r.store.prefix + "{revoked}hours" }
func (r Revocations) lifeKey() string            { return r.store.prefix + "{revoked}life" }

// storeScript adds a member to the hour's set and the hour to the index, and prolongs the lives of both: a
// revocation that is over earlier cuts none short. KEYS: the set, the index. ARGV: the member, the hour, the
// seconds to live, now in Unix seconds. What an hour scores in the index is when its set ends.
const storeScript = `redis.call('SADD', KEYS[1], ARGV[1])
redis.call('ZADD', KEYS[2], 'GT', ARGV[4] + ARGV[3], ARGV[2])
for _, key in ipairs(KEYS) do
	if redis.call('TTL', key) < tonumber(ARGV[3]) then redis.call('EXPIRE', key, ARGV[3]) end
end
return redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', ARGV[4])`

// Store implements ticket.RevocationStorage. To write a revocation twice is to write it once, so it may be sent
// again.
func (r Revocations) Store(ctx context.Context, key string, _ []byte) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	hour, member := path.Base(path.Dir(key)), path.Base(key)
	until, err := strconv.ParseInt(member[:max(0, strings.Index(member, "-"))], 10, 64)
	if err != nil {
		return fmt.Errorf("%q is no revocation", key)
	}
	now := time.Now()
	left := time.Unix(until, 0).Sub(now) + endsLate
	keys := []string{r.hourKey(hour), r.indexKey()}
	return failed("storing", r.store.client.Eval(ctx, storeScript, keys, member, hour, int64(max(left, time.Second)/time.Second), now.Unix()).Err())
}

// Delete implements ticket.RevocationStorage.
func (r Revocations) Delete(ctx context.Context, key string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return failed("deleting", r.store.client.SRem(ctx, r.hourKey(path.Base(path.Dir(key))), path.Base(key)).Err())
}

// List implements ticket.RevocationStorage: of one hour, if the prefix ends in its number, else of all.
func (r Revocations) List(ctx context.Context, prefix string, _ bool) ([]string, error) {
	if _, err := strconv.ParseInt(path.Base(prefix), 10, 64); err == nil {
		return r.members(ctx, path.Dir(prefix), path.Base(prefix))
	}
	index, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	hours, err := r.store.client.ZRange(index, r.indexKey(), 0, -1).Result()
	if err != nil {
		return nil, failed("reading", err)
	}
	var all []string
	for _, hour := range hours {
		files, err := r.members(ctx, prefix, hour)
		if err != nil {
			return nil, err
		}
		all = append(all, files...)
	}
	return all, nil
}

func (r Revocations) members(ctx context.Context, folder, hour string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	members, err := r.store.client.SMembers(ctx, r.hourKey(hour)).Result()
	for i, m := range members {
		members[i] = path.Join(folder, hour, m)
	}
	return members, failed("reading", err)
}

// Life implements ticket.Lossy: a random mark that goes where everything goes.
func (r Revocations) Life(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	life, err := r.store.client.GetEx(ctx, r.lifeKey(), lifeLong).Result()
	if err == nil || !errors.Is(err, redis.Nil) {
		return life, failed("reading", err)
	}
	err = r.store.do(ctx, "set", r.lifeKey(), rand.Text(), "ex", int64(lifeLong/time.Second), "nx").Err()
	if err != nil && !errors.Is(err, redis.Nil) {
		return "", failed("storing", err)
	}
	life, err = r.store.client.Get(ctx, r.lifeKey()).Result() // another gateway's may have come first
	return life, failed("reading", err)
}

// Interface guards.
var (
	_ ticket.RevocationStorage = Revocations{}
	_ ticket.Lossy             = Revocations{}
)
