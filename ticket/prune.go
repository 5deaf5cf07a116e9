package ticket

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"strconv"
)

// Prune forgets what no token can be alive for, here and in storage.
func (r *Revocations) Prune(ctx context.Context) error {
	var errs []error
	for _, file := range r.Known.ended(unixNow() - int64(skew.Seconds())) {
		if err := r.Storage.Delete(ctx, file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(append(errs, r.pruneHours(ctx))...)
}

// ended removes from memory what ended before now, and returns the files it stood in.
func (r *Revoked) ended(now int64) (files []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, rev := range r.until {
		if rev.until < now {
			files = append(files, rev.file)
			delete(r.until, id)
		}
	}
	return files
}

// pruneHours removes the hours' folders that are empty by now: 24 a day would pile up, and whoever reads all of the
// storage walks through them. Those of late stay, as another gateway may be writing into one.
func (r *Revocations) pruneHours(ctx context.Context) error {
	folders, err := r.list(ctx, revokedPath, false)
	if err != nil {
		return err
	}
	used := r.Known.folders()
	for _, folder := range folders {
		hour, err := strconv.ParseInt(path.Base(folder), 10, 64)
		if err != nil || path.Dir(folder) != revokedPath || hour > unixHour()-maxHours || used[folder] {
			continue
		}
		inside, err := r.list(ctx, folder, true)
		if err == nil && len(inside) == 0 {
			err = r.Storage.Delete(ctx, folder)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// folders are those that what is known stands in.
func (r *Revoked) folders() map[string]bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	used := map[string]bool{}
	for _, rev := range r.until {
		used[path.Dir(rev.file)] = true
	}
	return used
}
