"""A whole job with docker-py: python job.py MARK PUBLISHED"""
import io, socket, sys, tarfile
import docker

IMAGE = 'cifixture:1'
mark, published = sys.argv[1:]
client = docker.from_env()


def same(what, found, wanted):
    assert found == wanted, f'{what}: {found!r} is not {wanted!r}'


def tar(name, content):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode='w') as archive:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return out.getvalue()


assert client.ping()
assert client.version()['ApiVersion']
same('run', client.containers.run(IMAGE, ['echo', 'hello'], remove=True), b'hello\n')
image, _ = client.images.build(fileobj=io.BytesIO(f'FROM {IMAGE}\nRUN echo built > /b\n'.encode()), tag=f'{mark}-py', rm=True)
same('built', client.containers.run(f'{mark}-py', ['cat', '/b'], remove=True), b'built\n')
client.images.remove(f'{mark}-py')
name, tag = published.rsplit(':', 1)
client.images.pull(name, tag=tag)
same('pulled', client.containers.run(published, ['echo', 'pulled'], remove=True), b'pulled\n')

volume = client.volumes.create(f'{mark}-py-vol')
network = client.networks.create(f'{mark}-py-net')
worker = client.containers.run(IMAGE, ['sh', '-c', 'while :; do echo tick; sleep 0.2; done'], detach=True, name=f'{mark}-py-worker',
                               network=network.name, volumes={volume.name: {'bind': '/v', 'mode': 'rw'}})
code, output = worker.exec_run(['sh', '-c', 'echo out; exit 3'])
same('exec', (code, output), (3, b'out\n'))
same('exec demux', worker.exec_run(['sh', '-c', 'echo o; echo e >&2'], demux=True).output, (b'o\n', b'e\n'))

# Python's TLS sockets cannot half close; over a unix socket the end of input reaches the container while output goes on
api = client.api
tls = api.base_url.startswith('https')
command = ['sh', '-c', 'read line; echo $line; echo after' if tls else 'cat; echo after']
started = api.exec_start(api.exec_create(worker.id, command, stdin=True)['Id'], socket=True)
raw = started if tls else getattr(started, '_sock', started)
raw.sendall(b'abc\n')
if not tls:
    raw.shutdown(socket.SHUT_WR)
got = b''
while piece := raw.recv(4096):
    got += piece
assert b'abc\n' in got and b'after\n' in got, got
raw.close()

same('put', worker.put_archive('/tmp', tar('f', b'copied')), True)
pieces, stat = worker.get_archive('/tmp/f')
same('get', tarfile.open(fileobj=io.BytesIO(b''.join(pieces))).extractfile('f').read(), b'copied')
same('stat', stat['name'], 'f')
logs = worker.logs(stream=True, follow=True)
same('logs', next(logs)[:4], b'tick')
logs.close()
assert worker.stats(stream=False)['name'].endswith('py-worker')
assert any('while' in ' '.join(row) for row in worker.top()['Processes'])
events = client.events(decode=True, filters={'container': worker.name}, since=0)
assert next(events)['Actor']['Attributes']['name'] == worker.name
events.close()
assert [c.name for c in client.containers.list()] == [worker.name]
assert network.name in [n.name for n in client.networks.list()]
assert volume.name in [v.name for v in client.volumes.list()]
worker.kill()
same('wait', worker.wait()['StatusCode'], 137)
worker.remove()
network.remove()
volume.remove()
same('left', client.containers.list(all=True), [])
try:
    client.containers.get('nothing-of-that-name')
    raise SystemExit('a container that is not there was found')
except docker.errors.NotFound:
    pass
print('done')
