# One image, many commands: the web process, relays, workers, beat, Flower, and the job that migrates.
# See docker-compose.yml for how each is started.
ARG PYTHON_IMAGE=python:3.13-slim-trixie
ARG NODE_IMAGE=node:20-slim

FROM ${NODE_IMAGE} AS frontend
WORKDIR /frontend
COPY frontend/package.json frontend/package-lock.json frontend/.npmrc ./
RUN npm ci
COPY frontend ./
RUN npm run build

FROM ${PYTHON_IMAGE} AS packages
COPY requirements.txt .
RUN python -m venv --without-pip /venv \
    && pip --python /venv/bin/python install --no-cache-dir --disable-pip-version-check --require-hashes -r requirements.txt

FROM ${PYTHON_IMAGE}
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# Created here, so that volumes mounted there belong to the user.
RUN useradd --system --uid 10001 --home-dir /app --shell /usr/sbin/nologin shopwire \
    && install -d -o shopwire /app/var /app/var/static /app/var/flower /run/keys \
       /run/handed/app /run/handed/flower /run/handed/postgres /run/handed/redis /run/handed/rabbitmq
WORKDIR /app
COPY --from=packages /venv /venv
COPY . .
COPY --from=frontend /frontend/dist frontend/dist
RUN python -m compileall -q /app /venv
USER shopwire
EXPOSE 8000
CMD ["python", "manage.py", "serve", "--host", "0.0.0.0"]
