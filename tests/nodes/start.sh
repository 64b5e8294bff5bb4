# The start script against real servers, within the file system of their image: each row of what an edit does, and kills at any moment.
# Ends with 0 if nothing was lost. Run by start_script.rs.
set -u
SH=${SH:-sh}
dir=/t/v-1-0
rm -rf /t && mkdir -p $dir/etc $dir/data $dir/run && cp /server.sh $dir/etc/
cat >$dir/etc/facts <<X
server='valkey'
data='$dir/data'
run='$dir/run'
last_words='$dir/words'
port='7100'
primary='v-1-0'
replicas=''
all=''
replica_count='0'
without_data='Wait'
field='primaryWithoutData'
X

fail() {
    echo "FAILED: $*"
    tail -n 20 $dir/log
    cat $dir/words 2>/dev/null
    exit 1
}

# A class with or without an append-only file, and lines of its config: a pod of its own.
class() {
    rm -f $dir/run/*.conf
    printf 'port 7100\nprotected-mode no\ndir %s\nappendonly %s\n' $dir/data "$1" >$dir/etc/primary.conf
    shift
    for line in "$@"; do echo "$line" >>$dir/etc/primary.conf; done
}

start() {
    HOSTNAME=v-1-0 setsid $SH $dir/etc/server.sh start >$dir/log 2>&1 &
    pid=$!
}

ask() { valkey-cli -p 7100 "$@" 2>/dev/null; }

up() {
    start
    tries=0
    until [ "$(ask ping)" = PONG ]; do
        kill -0 $pid 2>/dev/null || fail "$1: it ended"
        tries=$((tries + 1))
        [ $tries -lt 300 ] || fail "$1: it does not answer"
        sleep 0.1
    done
    [ "$(ask dbsize) $(ask -n 3 dbsize)" = "$2" ] || fail "$1: $(ask dbsize) keys and $(ask -n 3 dbsize) in database 3, not $2"
}

down() { # by a signal
    kill -$1 -$pid 2>/dev/null
    wait $pid 2>/dev/null
}

refused() { # what, words
    start
    wait $pid
    code=$?
    [ $code = 78 ] && grep -q "$2" $dir/words || fail "$1: exit code $code"
}

class yes && up fresh '0 0'
ask eval "for i=1,5000 do redis.call('set','k'..i,i) end return 1" 0 >/dev/null
ask -n 3 set x y >/dev/null
ask -n 3 set expires soon ex 3600 >/dev/null
sleep 1.1 # the file is synchronised every second
down KILL
while read -r what append lines; do
    class "$append" "$lines" && up "$what" '5000 2' && down TERM
    up "$what, again" '5000 2' && down KILL
done <<X
appendfilename yes appendfilename "other file.aof"
appenddirname yes appenddirname elsewhere
snapshots no save 60 1
dbfilename no dbfilename z.rdb
nothing-kept no save ""
append-only yes
plain-append-only yes aof-use-rdb-preamble no
more-databases yes databases 40
fewer-databases yes databases 4
X
class yes 'databases 2' && refused databases 'set databases to at least 4'
class yes 'maxmemory 100Mi' && refused maxmemory 'ConfigRefused.*must be a memory value'
class no 'dbfilename "put there.rdb"' && up snapshot '5000 2' && down TERM
rm -rf $dir/data/.atomix && mv "$dir/data/put there.rdb" $dir/data/restored
class yes && up 'a snapshot that somebody put there' '5000 2' && down TERM

# An append-only file of one part, as Redis 6 has it.
class yes 'aof-use-rdb-preamble no' && up plain '5000 2' && ask bgrewriteaof >/dev/null && sleep 1 && down TERM
cat $dir/data/appendonlydir/*.base.* $dir/data/appendonlydir/*.incr.aof >$dir/data/appendonly.aof
rm -rf $dir/data/appendonlydir $dir/data/.atomix $dir/data/*.rdb
class yes && up 'an append-only file of one part' '5000 2' && down TERM

sed -i s/^server=.*/server=redis/ $dir/etc/facts
class yes && up redis '5000 2' && ask bgrewriteaof >/dev/null && sleep 1 && down TERM
sed -i s/^server=.*/server=valkey/ $dir/etc/facts
class yes && refused 'from Redis, whose snapshots are of a newer format,' 'DataNotConverted.*cannot be read by Valkey'
sed -i s/^server=.*/server=redis/ $dir/etc/facts
class yes && up 'redis again' '5000 2' && down TERM

# Killed at any moment.
for round in 0 1 2 3; do
    case $((round % 4)) in
    0) class no ;;
    1) class yes "appendfilename y$round" ;;
    2) class yes "appendfilename z$round" ;;
    3) class no "dbfilename y$round" ;;
    esac
    for secs in 0.25 0.4 0.5 0.6 0.7 0.8; do
        start
        sleep $secs
        down KILL
    done
    up "killed in round $round" '5000 2'
    down KILL
done
echo "nothing was lost"
