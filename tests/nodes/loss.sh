# A primary and its replica, by the start script, when volumes are lost: who serves, who waits, and what each says. Ends with 0 if no copy was
# overwritten before somebody decided. Run by start_script.rs.
set -u
SH=${SH:-sh}
P=v-1-0 R=v-1-r-0
rm -rf /t && mkdir -p /t && : >/etc/hosts

fail() {
    echo "FAILED: $*"
    for server in $P $R; do tail -n 5 /t/$server/log; cat /t/$server/words 2>/dev/null; done
    exit 1
}

server() { # name, address
    echo "$2 $1" >>/etc/hosts
    dir=/t/$1
    mkdir -p $dir/etc $dir/data $dir/run && cp /server.sh $dir/etc/
    cat >$dir/etc/facts <<X
server='valkey'
data='$dir/data'
run='$dir/run'
last_words='$dir/words'
port='7200'
primary='$P'
replicas='$R'
all=''
replica_count='1'
without_data='Wait'
field='primaryWithoutData'
password_file='$dir/password'
password_of='key password of Secret s'
X
    printf 'port 7200\nbind %s\nprotected-mode no\ndir %s\nappendonly yes\nrepl-diskless-sync-delay 0\n' $2 $dir/data >$dir/etc/primary.conf
    { cat $dir/etc/primary.conf; echo "replicaof $P 7200"; } >$dir/etc/replica.conf
}

run() { # server, what
    name=$1
    shift
    HOSTNAME=$name $SH /t/$name/etc/server.sh "$@"
}

start() {
    : >/t/$1/words
    HOSTNAME=$1 $SH /t/$1/etc/server.sh start >>/t/$1/log 2>&1 &
    echo $! >/t/$1/pid
}

ready() {
    tries=0
    until run $1 ready >/dev/null 2>&1; do
        tries=$((tries + 1))
        [ $tries -lt 300 ] || fail "$1 is not ready: $2"
        sleep 0.1
    done
}

has() { # server, keys
    tries=0
    until [ "$(run $1 cli dbsize)" = "$2" ]; do
        tries=$((tries + 1))
        [ $tries -lt 100 ] || fail "$1 has $(run $1 cli dbsize) keys, not $2: $3"
        sleep 0.1
    done
}

on_disk() { # server: what it was sent whole is on its volume once the files are rewritten
    tries=0
    until [ "$(run $1 cli info persistence | grep -cE '^aof_rewrite_(in_progress|scheduled):0')" = 2 ]; do
        tries=$((tries + 1))
        [ $tries -lt 300 ] || fail "$1 still rewrites its files: $2"
        sleep 0.1
    done
}

stop() {
    for name in "$@"; do
        kill -KILL "$(cat /t/$name/pid)" 2>/dev/null
        wait "$(cat /t/$name/pid)" 2>/dev/null
    done
    : # whatever it ended with
}

lose() {
    rm -rf /t/$1/data /t/$1/run
    mkdir /t/$1/data /t/$1/run
    [ ! -e /t/$1/password ] || run $1 password
}

says() { # server, words
    wait "$(cat /t/$1/pid)"
    code=$?
    [ $code = 79 ] && grep -q "$2" /t/$1/words || fail "$1 exits with $code and does not say: $2"
}

waits() {
    start $1
    waits_on $1 'it was started'
}

waits_on() { # server, why
    sleep 3
    kill -0 "$(cat /t/$1/pid)" 2>/dev/null || fail "$1 does not wait: $2"
}

keeps() { # yes or no: what the next pods keep
    case $1 in yes) lines='appendonly yes' ;; no) lines='appendonly no\nsave ""' ;; esac
    for name in $P $R; do
        for conf in /t/$name/etc/primary.conf /t/$name/etc/replica.conf; do
            sed -i -e '/^appendonly /d' -e '/^save /d' $conf
            printf "$lines\n" >>$conf
        done
        rm -f /t/$name/run/primary.conf /t/$name/run/replica.conf
    done
}

word() { sed -i "s/^without_data=.*/without_data='$2'/" /t/$1/etc/facts; }

server $P 127.0.1.1
server $R 127.0.1.2
printf -- '--port 1 "\\$x\0\377\n' | tee /t/$P/password >/t/$R/password
run $P password && run $R password
grep -q PasswordEndsInNewline /t/$P/words || fail 'a newline is not said'

# A new database asks nobody, though no replica answers.
touch /t/$P/etc/first-start
start $P && ready $P 'it is new'
start $R && ready $R 'it is new'
rm /t/$P/etc/first-start
run $P cli eval "for i=1,500 do redis.call('set','k'..i,i) end return 1" 0 >/dev/null
has $R 500 'it copies'
[ "$(valkey-cli -h 127.0.1.1 -p 7200 -x auth <"/t/$P/password")" = OK ] || fail 'the password is another'

# The volume of the primary is lost: it waits, and goes on as a person says.
stop $P && lose $P && start $P && says $P 'PrimaryWithoutData: .*v-1-r-0 has 500 keys'
waits $P && has $R 500 'its primary waits'
# What it said stands, and a person can decide at any time, though the replica comes and goes.
stop $R && sleep 3 && waits_on $P 'its replica went' && start $R && has $R 500 'it came back' && waits_on $P 'its replica came back'
run $P decide CopyFromReplica && ready $P 'it copies' && has $P 500 'it has copied'
run $P cli set another 1 >/dev/null && has $R 501 'it follows again'
[ "$(run $R cli config get min-replicas-to-write | tail -n 1)" = 0 ] || fail 'the replica takes no writes for ever'

# Both restart at once, with data; the replica has another password.
stop $P $R && start $P && start $R && ready $P 'both restart' && ready $R 'both restart' && has $R 501 'both restart'
stop $R && mv /t/$R/password /t/$R/right && printf wrong >/t/$R/password && run $R password && start $R
wait "$(cat /t/$R/pid)"
code=$?
[ $code = 77 ] || fail "it follows with another password: $code"
mv /t/$R/right /t/$R/password && run $R password && start $R && ready $R 'it has the password again'
stop $P $R && mv /t/$P/run/password.conf /t/$P/run/auth /t && start $P && ready $P 'it asks for no password' && start $R
wait "$(cat /t/$R/pid)"
[ $? = 77 ] || fail 'it has a password, which its primary does not ask for'
stop $P && mv /t/password.conf /t/auth /t/$P/run && start $P && start $R && ready $P 'all as before' && ready $R 'all as before'

# It is lost while the replica is away, and while it comes back; the class decides.
on_disk $R 'all as before' && stop $P $R && lose $P && start $P && says $P 'whether a replica has some is not known: v-1-r-0 does not answer'
start $P && start $R && says $P 'v-1-r-0 has 501 keys'
word $P CopyFromReplica && start $P && ready $P 'the class decides' && has $P 501 'the class decides' && word $P Wait

# A replica that was away does not give its data up for a primary that started empty meanwhile, whatever that has by now.
on_disk $R 'the class decided' && stop $P $R && lose $P && word $P StartEmpty && start $P && ready $P 'it starts empty' && word $P Wait
run $P cli set a b >/dev/null
start $R && says $R 'ReplicaOfAnother'
waits $R && run $P cli set c d >/dev/null && waits_on $R 'its primary has more keys'
run $R decide StartEmpty && ready $R 'it gives its data up' && has $R 2 'it gives its data up'

# But it follows its own primary when that has been emptied by a client.
stop $R && run $P cli flushall >/dev/null && start $R && ready $R 'it was emptied' && has $R 0 'it was emptied'
on_disk $R 'it was emptied' && stop $P $R

# Nor does one without keys wait for a person when its primary has lost its volume, since it has nothing to give up.
lose $P && word $P StartEmpty && start $P && ready $P 'it starts empty again' && word $P Wait
start $R && ready $R 'it has no keys' && has $R 0 'it has no keys' && on_disk $R 'it has no keys' && stop $P $R

# A replica that does not know whose data it has, since an earlier version started it, has none either: it follows.
rm /t/$R/data/.atomix/follows && start $P && ready $P 'it has no keys' && start $R && ready $R 'neither has keys'
stop $P $R

# The class kept nothing and keeps data again: what the volume had before is older than what the replica has, also once it has been brought
# into another form.
start $P && start $R && ready $P 'it keeps data' && ready $R 'it keeps data' && run $P cli set old 1 >/dev/null && has $R 1 'it is kept'
on_disk $R 'it is kept' && stop $P $R && keeps no && start $P && start $R && ready $P 'it keeps nothing' && ready $R 'it keeps nothing'
run $P cli set new 2 >/dev/null && has $R 2 'it is not kept' && stop $P && keeps yes
start $P && says $P 'PrimaryWithoutData: .*has kept nothing.*v-1-r-0 has 2 keys'
waits $P && has $R 2 'its primary waits'
stop $P && waits $P && run $P decide CopyFromReplica && ready $P 'it copies what is newer' && has $P 2 'it has what is newer'
has $R 2 'it follows again' && on_disk $R 'it follows again' && stop $P $R

# No password, or an empty one, is none to start with.
: >/t/$P/password && run $P password
[ $? = 78 ] && grep -q EmptyPassword /t/$P/words || fail 'it starts with an empty password'
rm /t/$P/password && run $P password
[ $? = 78 ] && grep -q NoPassword /t/$P/words || fail 'it starts without its password'
echo "nothing was lost"
